//! Tests of several modules together: the key of real files, and the builder with a real engine and an independent registry (Debian's
//! docker-registry).

mod builders;
mod context;
mod engine;
mod flow;
mod key;
mod other_content;
mod tags;
mod tidy;
mod world;
