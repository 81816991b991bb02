//! Items 35, 111 to 116.
