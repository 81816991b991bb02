//! Framers by their public face: what is encoded comes back whatever way the bytes are cut, and
//! foreign bytes never do more than end a Carrier.
//!
//! Below: the framers and `postring::Output`. Absent: sockets; how the engine feeds a framer is the
//! engine's own suite.

#[cfg(feature = "codec")]
mod codec;
#[cfg(feature = "json")]
mod json;
mod length_prefixed;
mod lines;
mod parts;
#[cfg(feature = "postcard")]
mod postcard;
mod support;
