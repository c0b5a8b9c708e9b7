//! Shows the plan, the end and the report, for users and programs.

mod document;
mod end;
mod plan;
mod resources;

pub use document::Report;
pub(super) use document::{ImageReport, done_word};
pub(super) use end::{errors, finish, refuse_failed};
pub(super) use plan::plan;
pub use plan::{held, not_compared};
