//! What takes several modules: the key of real files, and the builder with a real engine and a registry that nobody here wrote
//! (Debian's docker-registry).

mod builders;
mod context;
mod engine;
mod flow;
mod key;
mod other_content;
mod tags;
mod tidy;
mod world;
