//! The echo pair on Postring's default interface; item 81 counts its lines.
//!
//! Absent: what the other pair needs and this does not.

use postring::LengthPrefixed;

pub(crate) fn serve(address: &str) -> postring::Result<()> {
    let frames = LengthPrefixed::default();
    postring::respond_with(address, frames, |message, reply| reply.send(message))
}

pub(crate) fn ask(address: &str, question: &str) -> postring::Result<Vec<u8>> {
    let carrier = postring::initiate_with(address, LengthPrefixed::default());
    carrier.send(question).wait()?;
    Ok(carrier.receive().wait()?.bytes().to_vec())
}
