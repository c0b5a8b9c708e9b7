//! A proxy before a server that forwards everything until a certain request, which it holds.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time limit for everything that a test waits for: only for a run that hangs.
pub const BOUND: Duration = Duration::from_secs(300);

type Hold = Box<dyn FnMut(&str) -> bool + Send>;

/// A TCP proxy on 127.0.0.1.
#[derive(Debug)]
pub struct Gate {
    host: String,
    held: Receiver<String>,
    open: Arc<AtomicBool>,
    waiting: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// A gate before `host` (`127.0.0.1:PORT`). `hold` gets the first line of each request and returns whether to hold this one forever.
    pub fn before(host: &str, hold: impl FnMut(&str) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = listener.local_addr().unwrap().to_string();
        let (sender, held) = channel();
        let open = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&open);
        let waiting = Arc::<Mutex<Vec<TcpStream>>>::default();
        let held_here = Arc::clone(&waiting);
        let (host, hold): (_, Arc<Mutex<Hold>>) = (host.to_owned(), Arc::new(Mutex::new(Box::new(hold))));
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(&host) else { continue };
                let (hold, sender, opened) = (Arc::clone(&hold), sender.clone(), Arc::clone(&opened));
                let held_here = Arc::clone(&held_here);
                let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let is_held = Arc::new(AtomicBool::new(false));
                let holds = Arc::clone(&is_held);
                std::thread::spawn(move || {
                    // An error means that one end closed the connection.
                    let _ = std::io::copy(&mut back.0, &mut back.1);
                    // A server that no longer waits for the request must not end it.
                    if !holds.load(Ordering::SeqCst) {
                        let _ = back.1.shutdown(Shutdown::Both);
                    }
                });
                std::thread::spawn(move || {
                    let (mut client, mut server) = (client, server);
                    let mut chunk = vec![0; 64 * 1024];
                    while let Ok(length @ 1..) = client.read(&mut chunk) {
                        let line = chunk[..length].split(|byte| *byte == b'\r').next().unwrap_or_default();
                        let line = String::from_utf8_lossy(line);
                        let shut = line.ends_with(" HTTP/1.1") && !opened.load(Ordering::SeqCst);
                        if shut && hold.lock().unwrap()(&line) {
                            is_held.store(true, Ordering::SeqCst);
                            held_here.lock().unwrap().push(client.try_clone().unwrap());
                            let _ = sender.send(line.into_owned());
                            // Held until the client closes the connection.
                            while let Ok(1..) = client.read(&mut chunk) {}
                            break;
                        }
                        if server.write_all(&chunk[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { host: gate, held, open, waiting }
    }

    /// The gate's address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Forwards everything from now on.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Forwards everything from now on, and closes the connections of held requests.
    pub fn cut(&self) {
        self.open();
        for client in self.waiting.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a request is held, and returns its first line.
    pub fn wait(&self) -> String {
        self.held.recv_timeout(BOUND).expect("no such request came")
    }
}
