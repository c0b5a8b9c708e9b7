//! A terraform provider for machines that cannot fetch hashicorp/aws, and for AWS emulated on this machine.
//!
//! It serves the real provider's schema ([`schema`]) over terraform's plugin protocol ([`server`]), so that terraform validates the module
//! as with the real one, and keeps the resources at the address in `AWS_ENDPOINT_URL` ([`api`], [`resources`]), which must be a loopback
//! address: this program never contacts AWS.

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

/// The version for terraform: `provider_version` of the schema, with a suffix for the stand-in.
const VERSION: &str = "6.66.0+standin";

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(handshake::serve())
}
