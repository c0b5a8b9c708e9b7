//! The sample images of a world, and the registries that serve them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sample_upstreams::{Config, Options, Scale, Server, Store, build};

use crate::{Run, get, request, skip, target};

/// All registries of the sample images.
pub const REGISTRIES: [&str; 5] = ["docker.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.k8s.io"];

/// The sample images that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Tiny ones, which need neither root nor debootstrap.
    Small,
    /// The full ones, on whose bases runtimes can be built.
    Full,
}

impl Images {
    /// The images, created once for all tests; `cargo xtask demo` creates the same. `None` if the machine cannot create them.
    pub(crate) fn made(self) -> Option<&'static Store> {
        static SMALL: OnceLock<Result<Store, String>> = OnceLock::new();
        static FULL: OnceLock<Result<Store, String>> = OnceLock::new();
        let (cell, name, scale) = match self {
            Images::Small => (&SMALL, "local/sample-upstreams-small", Scale::Small),
            Images::Full => (&FULL, "local/sample-upstreams", Scale::Full),
        };
        let data = target().join(name);
        match cell.get_or_init(|| build(&data, &Options { scale }).map_err(|error| error.to_string())) {
            Ok(store) => Some(store),
            Err(missing) => {
                skip(missing);
                None
            }
        }
    }
}

/// The registries of the world and their addresses.
#[derive(Debug)]
pub struct Sources {
    /// This world's own sample images.
    pub store: Store,
    /// The host that serves all of them.
    pub host: String,
    addresses: BTreeMap<String, String>,
}

impl Sources {
    /// Serves `store` as every registry.
    pub(crate) fn serve(store: Store) -> Self {
        let host = serve(store.clone(), Config::default());
        let address = |name: &str| (name.to_owned(), format!("http://{host}/{name}"));
        let addresses = REGISTRIES.iter().map(|name| address(name)).collect();
        Self { store, host, addresses }
    }

    /// From now on, a registry has this address.
    pub fn route(&mut self, registry: &str, url: String) {
        self.addresses.insert(registry.to_owned(), url);
    }

    /// From now on, Docker Hub allows only this number of pulls.
    pub fn pulls_left(&mut self, pull_limit: u64) {
        let hub = serve(self.store.clone(), Config { pull_limit, ..Config::default() });
        self.route("docker.io", format!("http://{hub}/docker.io"));
    }

    /// The run with these registries instead of the real ones.
    pub(crate) fn for_run(&self, run: Run) -> Run {
        self.addresses.iter().fold(run, |run, (name, url)| run.arg("--upstream").arg(format!("{name}={url}")))
    }

    /// Requests since the last [`Sources::forget`], by kind (`oci GET blob`).
    pub fn requests(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(get(&format!("http://{}/_local/requests", self.host)).json()).unwrap()
    }

    /// Resets the request counters.
    pub fn forget(&self) {
        request("POST", &format!("http://{}/_local/reset-requests", self.host), &[], b"");
    }
}

/// Serves `store` until the tests end, and returns the host.
fn serve(store: Store, config: Config) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    // A separate thread keeps the server running.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(store, config).await.unwrap();
            sender.send(server.address().to_string()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}
