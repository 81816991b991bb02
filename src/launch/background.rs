//! Background: one core for programs that only initiate (a client, a test, a tool).
//!
//! Above: `initiate` outside any engine. Below: an engine of one unpinned, sleeping thread that
//! begins with the first call and lives as long as the process. Absent: listening.

use std::sync::{Arc, OnceLock};

use super::Engine;
use crate::error::Error;
use crate::shard::mail::CoreHandle;

/// The background core, begun by the first caller.
pub(super) fn core() -> Result<Arc<CoreHandle>, &'static Error> {
    static ENGINE: OnceLock<Result<Engine, Error>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::builder().unpinned(1).start());
    let engine = engine.as_ref()?;
    Ok(Arc::clone(&engine.cores[0].handle))
}
