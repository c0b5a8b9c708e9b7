//! One exchange with a server: the request and the reply, and where a server may redirect us to.

pub(crate) mod address;
pub(crate) mod address_guard;
pub(crate) mod encoding;
pub(crate) mod http;
pub(crate) mod location;
pub(crate) mod network;
pub(crate) mod reached_servers;
pub(crate) mod redact;
pub(crate) mod response;
pub(crate) mod retry_after;
pub(crate) mod served;
pub(crate) mod wait_span;
