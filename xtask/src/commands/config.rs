//! `config`.

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::origins::{Setting, settings};
use crate::ui::Table;

/// Show the settings of a run, and where each value comes from
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    after_help = "Examples:\n  cargo xtask config show\n  cargo xtask config show TAG=prod --profile ops --format json"
)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every setting with its value and where it comes from; no server is asked
    #[command(after_help = "Example:\n  cargo xtask config show")]
    Show,
}

impl Config {
    /// Runs the command.
    ///
    /// images.toml is wrong.
    /// images.toml is wrong.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Command::Show = self.command;
        let config = context.config()?;
        let settings: Vec<Setting> = settings(context, &config).await;
        let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
        for setting in &settings {
            let value = setting.value.clone().unwrap_or_else(|| "-".to_owned());
            table.row([setting.name.clone(), value, setting.from.clone()]);
        }
        context.printer.results().data(&table, &serde_json::json!({ "settings": settings }))
    }
}
