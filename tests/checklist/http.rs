//! Item 113.
