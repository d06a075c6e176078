//! Lines for the operator. Few of them: a round's lines are bounded, and writing more is a fault.
//!
//! Natively the lines stay in the calling thread until [`testing::logged`](crate::testing::logged) takes them.

/// For who looks for a mistake.
pub fn debug(message: &str) {
    write(1, message);
}

/// Worth knowing.
pub fn info(message: &str) {
    write(2, message);
}

/// Something that a person should look at.
pub fn warn(message: &str) {
    write(3, message);
}

/// Something is broken.
pub fn error(message: &str) {
    write(4, message);
}

#[cfg(target_arch = "wasm32")]
fn write(level: u8, message: &str) {
    crate::bindings::log::write(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: u8, message: &str) {
    crate::testing::LOGGED.with_borrow_mut(|lines| lines.push((level, message.to_string())));
}
