//! Frames: finds whole length-prefixed frames at the start of received bytes.
//!
//! Above: every server and the client. Below: nothing.
//! Absent: no buffer: it looks at the bytes it is given.
//! Bound: [`PAYLOAD_MAX`], checked before a byte of the payload is waited for.

use std::io;

/// Length of the prefix in bytes (u32, big-endian, counts the payload only).
pub const PREFIX: usize = 4;

/// Longest payload that is accepted, in bytes.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// What stands at the start of some received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Bytes of the whole frames, which may be echoed in one write.
    pub whole: usize,
    /// Bytes the frame behind them has in all, prefix included; 0 while its length is unknown.
    pub wanted: usize,
}

/// Measures the whole frames at the start of `bytes`.
///
/// # Errors
/// `InvalidData` if a frame announces more than [`PAYLOAD_MAX`] bytes: close the connection.
#[inline]
pub fn scan(bytes: &[u8]) -> io::Result<Scan> {
    let mut whole = 0;
    while let Some((prefix, _)) = bytes[whole..].split_first_chunk::<PREFIX>() {
        let payload = u32::from_be_bytes(*prefix) as usize;
        if payload > PAYLOAD_MAX {
            return Err(too_long(payload));
        }
        let frame = PREFIX + payload;
        if bytes.len() - whole < frame {
            return Ok(Scan { whole, wanted: frame });
        }
        whole += frame;
    }
    Ok(Scan { whole, wanted: 0 })
}

#[cold]
fn too_long(payload: usize) -> io::Error {
    let text = format!("frame of {payload} bytes, the limit is {PAYLOAD_MAX}: connection closed");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Size of the buffer in which a frame of `wanted` bytes is gathered.
#[must_use]
pub fn room_for(wanted: usize) -> usize {
    wanted.next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_whole_frames_and_the_next_ones_size() {
        let bytes = [0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1];
        assert_eq!(scan(&bytes).unwrap(), Scan { whole: 9, wanted: 7 });
        assert_eq!(scan(&bytes[..9]).unwrap(), Scan { whole: 9, wanted: 0 });
        assert_eq!(scan(&bytes[..3]).unwrap(), Scan { whole: 0, wanted: 0 });
    }

    #[test]
    fn refuses_a_frame_over_the_limit() {
        let announced = u32::try_from(PAYLOAD_MAX + 1).unwrap().to_be_bytes();
        assert!(scan(&announced).is_err());
        let announced = u32::try_from(PAYLOAD_MAX).unwrap().to_be_bytes();
        assert_eq!(scan(&announced).unwrap().wanted, PREFIX + PAYLOAD_MAX);
    }
}
