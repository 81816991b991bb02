//! Target: an address as a user or a configuration writes it.
//!
//! Above: `TARGETS`. Below: `postring::Address`. Property: any text is either refused with an error
//! that names it, or understood, and then its own text means the same address.

/// Parses the input as an address; see the property above.
///
/// # Panics
/// If the property does not hold.
pub fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.parse::<postring::Address>() {
        Ok(address) => {
            let again: postring::Address =
                address.to_string().parse().expect("an address understands its own text");
            assert_eq!(again, address);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
