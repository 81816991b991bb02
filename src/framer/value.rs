//! Value and Decoded: what typed framers send and what they give.
//!
//! Above: `Codec`, `Json`, `Postcard`. Below: any type of the application. Absent: bytes; values
//! that lend the receive buffer (a typed value is always owned).

use std::ops::{Deref, DerefMut};

use crate::message::Detach;

/// A value of the application on its way out. Every value becomes one by itself where a Carrier or
/// a Reply sends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Value<T>(pub T);

/// A received value, as handlers get it; a Carrier's `receive` gives the bare `T`.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use postring::{Framer, Json};
/// let mut framer = Json::<u32>::default();
/// let (_, number) = framer.decode(b"42\n").unwrap().unwrap();
/// assert_eq!(*number, 42);
/// let owned: u32 = number.into_inner();
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Decoded<T>(T);

impl<T> Decoded<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Value<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> From<Decoded<T>> for Value<T> {
    fn from(decoded: Decoded<T>) -> Self {
        Self(decoded.0)
    }
}

impl<T> Deref for Decoded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Decoded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Send + 'static> Detach for Decoded<T> {
    type Owned = T;

    fn detach(self) -> T {
        self.0
    }
}

impl<T: Send + 'static> Detach for Value<T> {
    type Owned = Self;

    fn detach(self) -> Self {
        self
    }
}
