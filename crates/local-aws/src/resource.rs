//! The parts of the JSON services. A resource is a file with its actions and the permissions for each, the list of existing resources, and
//! the calls with which the tests compare it with other emulators. Its service's `mod.rs` lists it.

use serde_json::Value;

use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::scope::Scope;

/// A service with a JSON protocol.
pub(crate) struct Service {
    /// Its name in signatures and permissions.
    pub(crate) name: &'static str,
    /// The prefix of an action's name in `x-amz-target`.
    pub(crate) target: &'static str,
    pub(crate) resources: &'static [&'static Resource],
}

/// A service's resource of one type.
pub(crate) struct Resource {
    pub(crate) actions: &'static [Action],
    /// Terraform's type and the IDs of the customer's existing resources; `None` if terraform does not manage them.
    pub(crate) existing: Option<(&'static str, ExistingIds)>,
    /// The tests' calls, grouped by name.
    pub(crate) scenarios: &'static [(&'static str, &'static [Asked])],
}

/// An action's name, its permissions, and its handler.
pub(crate) type Action = (&'static str, Needs, Handler);

/// The permissions for an action; the first one has the action's name.
pub(crate) type Needs = fn(&Call<'_>, &str, &Input) -> Result<Vec<Need>, Fault>;

pub(crate) type Handler = fn(&Call<'_>, &Input) -> Result<Value, Fault>;

type ExistingIds = fn(&App, &Scope) -> Vec<String>;

/// One request with its caller and target.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// The account and region of the request: the caller's own, or the registry in ECR's `registryId`.
    pub(crate) scope: Scope,
    pub(crate) caller: &'a Caller,
}

impl<'a> Call<'a> {
    fn new(app: &'a App, caller: &'a Caller, input: &Input) -> Self {
        let account = input.opt("registryId").unwrap_or(&caller.scope.account).to_owned();
        Self { app, scope: Scope { account, region: caller.scope.region.clone() }, caller }
    }
}

/// For actions without a resource.
pub(crate) const ON_ALL: Needs = |_, permission, _| Ok(vec![Need::new(permission, "*")]);

impl Service {
    /// All implemented actions. Others answer 501 with their name.
    pub(crate) fn actions(&self) -> impl Iterator<Item = &'static Action> {
        self.resources.iter().flat_map(|resource| resource.actions)
    }

    fn find(&self, action: &str) -> Result<&'static Action, Fault> {
        let found = self.actions().find(|(name, ..)| *name == action);
        found.ok_or_else(|| Fault::not_implemented(self.name, action))
    }

    /// The permissions for an action.
    pub(crate) fn needs(
        &self,
        app: &App,
        caller: &Caller,
        action: &str,
        input: &Input,
    ) -> Result<Vec<Need>, Fault> {
        let (name, needs, _) = self.find(action)?;
        needs(&Call::new(app, caller, input), &format!("{}:{name}", self.name), input)
    }

    /// Executes one action.
    pub(crate) fn dispatch(
        &self,
        app: &App,
        caller: &Caller,
        action: &str,
        input: &Input,
    ) -> Result<Value, Fault> {
        let (.., handler) = self.find(action)?;
        handler(&Call::new(app, caller, input), input)
    }
}

/// A call of the tests, and the parts of its answer that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its name in the table of results.
    pub name: &'static str,
    /// The action.
    pub action: &'static str,
    /// Its input; `{name}` is replaced by a value that an earlier call stored.
    pub input: &'static str,
    /// JSON pointers; `name<pointer` stores the value under a name.
    pub shown: &'static [&'static str],
}

pub(crate) const fn ask(
    name: &'static str,
    action: &'static str,
    input: &'static str,
    shown: &'static [&'static str],
) -> Asked {
    Asked { name, action, input, shown }
}

/// Calls about one subject, in order.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in the table of results.
    pub name: &'static str,
    /// The service.
    pub service: &'static str,
    /// The prefix of an action's name in `x-amz-target`.
    pub target: &'static str,
    /// The calls.
    pub calls: &'static [Asked],
}
