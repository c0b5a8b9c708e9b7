//! What the services that speak JSON are made of. A resource is a file: its actions with what a caller needs for each, what of it
//! stands in an account, and the calls by which the tests compare it with others' emulators. Its service's `mod.rs` lists it.

use serde_json::Value;

use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::scope::Scope;

/// A service that speaks JSON.
pub(crate) struct Service {
    /// As signatures and permissions name it.
    pub(crate) name: &'static str,
    /// What stands before an action's name in `x-amz-target`.
    pub(crate) target: &'static str,
    pub(crate) resources: &'static [&'static Resource],
}

/// What a service has of one kind.
pub(crate) struct Resource {
    pub(crate) actions: &'static [Action],
    /// Terraform's name of the type, and the ids of what stands of it and is the customer's; none for what terraform does not make.
    pub(crate) standing: Option<(&'static str, Standing)>,
    /// What the tests ask, each with a name.
    pub(crate) scenarios: &'static [(&'static str, &'static [Asked])],
}

/// An action's name, what a caller needs for it, and what it does.
pub(crate) type Action = (&'static str, Needs, Handler);

/// What a caller needs, the first of it by the permission that has the action's name.
pub(crate) type Needs = fn(&Call<'_>, &str, &Input) -> Result<Vec<Need>, Fault>;

pub(crate) type Handler = fn(&Call<'_>, &Input) -> Result<Value, Fault>;

type Standing = fn(&App, &Scope) -> Vec<String>;

/// One request: for whom, and with what.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// The account and region that are meant: the caller's own, or ECR's registry that `registryId` names.
    pub(crate) scope: Scope,
    pub(crate) caller: &'a Caller,
}

impl<'a> Call<'a> {
    fn new(app: &'a App, caller: &'a Caller, input: &Input) -> Self {
        let account = input.opt("registryId").unwrap_or(&caller.scope.account).to_owned();
        Self { app, scope: Scope { account, region: caller.scope.region.clone() }, caller }
    }
}

/// For an action on nothing that has an ARN.
pub(crate) const ON_ALL: Needs = |_, permission, _| Ok(vec![Need::new(permission, "*")]);

impl Service {
    /// Every action that is implemented. What is not among them answers 501 with its name.
    pub(crate) fn actions(&self) -> impl Iterator<Item = &'static Action> {
        self.resources.iter().flat_map(|resource| resource.actions)
    }

    fn find(&self, action: &str) -> Result<&'static Action, Fault> {
        let found = self.actions().find(|(name, ..)| *name == action);
        found.ok_or_else(|| Fault::not_implemented(self.name, action))
    }

    /// What the caller needs for an action.
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

    /// Answers one action.
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

/// A call that the tests make, and what of its answer is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What it is called in the table of outcomes.
    pub name: &'static str,
    /// The action.
    pub action: &'static str,
    /// Its input; `{name}` stands for what an earlier call kept.
    pub input: &'static str,
    /// JSON pointers; `name<pointer` keeps the value under a name.
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

/// The calls about one thing, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called in the table of outcomes.
    pub name: &'static str,
    /// The service that is asked.
    pub service: &'static str,
    /// What stands before an action's name in `x-amz-target`.
    pub target: &'static str,
    /// The calls.
    pub calls: &'static [Asked],
}
