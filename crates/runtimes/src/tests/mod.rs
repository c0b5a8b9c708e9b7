//! The builder with a real engine and a registry that nobody here wrote (Debian's docker-registry).

mod context;
mod engine;
mod flow;
mod tags;
mod tidy;
mod world;
