//! Shows the plan, the end and the report, for users and programs.

mod end;
mod plan;
mod report;
mod resources;

pub(super) use end::{errors, finish, refuse_failed};
pub(super) use plan::plan;
pub use plan::{held, not_compared};
pub use report::Report;
pub(super) use report::{ImageReport, done_word};
