//! The length-prefixed framer on foreign bytes: no panic, no overread, and what it takes it would
//! have written itself.
//!
//! Below: `postring::LengthPrefixed`. Absent: how a connection buffers; the input arrives in
//! two pieces and then whole.

use postring::{Endianness, FrameError, Framer, LengthPrefixed, Output, Width};

/// The first bytes of the input choose the framer and where the rest is cut.
struct Choice<'a> {
    framer: LengthPrefixed,
    len_max: usize,
    cut: usize,
    wire: &'a [u8],
}

/// Byte 0: width (bits 0-1), endianness (bit 2), limit (bits 3-5). Byte 1: where the wire bytes
/// are cut. The wire bytes follow.
fn choose(input: &[u8]) -> Option<Choice<'_>> {
    let (&[options, cut], wire) = input.split_first_chunk()?;
    let width = [Width::One, Width::Two, Width::Four, Width::Eight][usize::from(options & 3)];
    let endianness = if options & 4 == 0 { Endianness::Big } else { Endianness::Little };
    let limits = [0, 1, 16, 255, 1400, 65_535, 16 << 20, usize::MAX];
    let len_max = limits[usize::from(options >> 3 & 7)];
    let framer = LengthPrefixed::default().width(width).endianness(endianness).len_max(len_max);
    Some(Choice { framer, len_max, cut: usize::from(cut).min(wire.len()), wire })
}

/// Decodes the input as far as it goes.
///
/// # Panics
/// If the framer reads past its input, contradicts itself, or decodes what it would not encode.
pub fn length_prefixed(input: &[u8]) {
    let Some(Choice { mut framer, len_max, cut, wire }) = choose(input) else { return };
    let early = framer.decode(&wire[..cut]).map(|found| found.map(|(len, _)| len));
    let mut rest = wire;
    let mut first = true;
    loop {
        let needs = framer.needs(rest);
        let found = framer.decode(rest);
        if first {
            first = false;
            let whole = found.as_ref().map(|found| found.as_ref().map(|(len, _)| *len));
            match &early {
                // What was clear from the first piece stays so when more has come.
                Err(error) => assert_eq!(whole, Err(error)),
                Ok(Some(len)) => assert_eq!(whole, Ok(Some(*len))),
                Ok(None) => {}
            }
        }
        match found {
            Ok(Some((len, message))) => {
                assert!(0 < len && len <= rest.len(), "took {len} of {} bytes", rest.len());
                assert_eq!(needs, Some(len), "needs and decode disagree");
                assert!(message.len() <= len_max && message.is_complete());
                let mut output = Output::default();
                framer.encode(message, &mut output).expect("what was received may be sent");
                assert_eq!(output.to_vec(), rest[..len], "another frame than was received");
                rest = &rest[len..];
            }
            Ok(None) => {
                assert!(needs.is_none_or(|needs| needs > rest.len()), "it was all there");
                let end = framer.end(rest.len());
                assert_eq!(end.is_err(), !rest.is_empty(), "a cut frame must not pass");
                return;
            }
            Err(FrameError::TooLong { len, len_max: told }) => {
                assert!(len > told && told <= len_max);
                assert_eq!(needs, None, "a refused frame gets no buffer");
                return;
            }
            Err(other) => panic!("{other}"),
        }
    }
}
