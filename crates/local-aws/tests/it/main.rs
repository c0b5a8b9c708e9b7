//! The emulated AWS, called by hand-written requests and by independent clients.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod aws_cli;
mod common;
mod docker;
mod durability;
mod ecr;
mod ecr_settings;
mod iam;
mod kms_sts;
mod oci;
mod oci_push;
mod pull_through;
mod s3;
mod scenarios;
mod signing;
mod skopeo;
mod terraform;
