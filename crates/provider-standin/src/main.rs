//! A terraform provider for machines that cannot fetch hashicorp/aws, and for AWS emulated on this machine.
//!
//! It serves the real provider's schema ([`schema`]) over terraform's plugin protocol ([`server`]), so that terraform
//! judges the module as it would with the real one, and keeps the resources at the address in `AWS_ENDPOINT_URL`
//! ([`api`], [`resources`]), which must be a loopback address: this program never talks to AWS.

mod api;
mod crypto;
mod data;
mod handshake;
mod keys;
mod plan;
mod protocol;
mod resources;
mod schema;
mod server;
mod tags;
mod values;

/// What terraform knows this build as; `provider_version` of the schema, marked as what it is.
const VERSION: &str = "6.66.0+standin";

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(handshake::serve())
}
