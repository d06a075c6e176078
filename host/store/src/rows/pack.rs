//! Deflating: what of history is large is stored deflated.

use std::fmt;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::error::StoreError;

/// Deflate's level: higher ones cost the settlement milliseconds and save a few percent.
const LEVEL: i32 = 1;
/// Shorter rows stay as they are: claims and joins come by the hundred, and deflating one gains nothing.
const DEFLATED_FROM: usize = 512;
/// No deflated row is larger than this when it is whole: a settlement of the largest queue stays far below.
const INFLATED_MAX: usize = 256 << 20;

/// First byte of a row that follows as it is.
const PLAIN: u8 = 0;
/// First byte of a row that follows deflated.
const DEFLATED: u8 = 1;

/// Deflates rows, one after the other: its tables of 300 kB are made once.
pub(crate) struct Packer(Box<CompressorOxide>);

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self(Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, 0, 0))))
    }

    /// The bytes as a row.
    pub(crate) fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() >= DEFLATED_FROM
            && let Some(row) = self.deflate(bytes)
        {
            return row;
        }
        [&[PLAIN], bytes].concat()
    }

    /// `None` when it did not work; the bytes are then kept as they are.
    fn deflate(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut row = Vec::with_capacity(bytes.len() / 3);
        row.push(DEFLATED);
        self.0.reset();
        let (status, read) = compress_to_output(&mut self.0, bytes, TDEFLFlush::Finish, |piece| {
            row.extend_from_slice(piece);
            true
        });
        (status == TDEFLStatus::Done && read == bytes.len()).then_some(row)
    }
}

/// The bytes of a row.
pub(crate) fn unpack(table: &'static str, key: impl fmt::Display, row: &[u8]) -> Result<Vec<u8>, StoreError> {
    match row.split_first() {
        Some((&PLAIN, bytes)) => Ok(bytes.to_vec()),
        Some((&DEFLATED, bytes)) => {
            decompress_to_vec_with_limit(bytes, INFLATED_MAX).map_err(|error| StoreError::damaged(table, key, error))
        }
        Some(_) | None => Err(StoreError::damaged(table, key, "its first byte is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::draw::Draw;

    #[test]
    fn bytes_of_any_length_come_back() {
        let (mut packer, draw) = (Packer::new(), &mut Draw(1));
        for _ in 0..200 {
            let noise = draw.below(1 << 16) | 1;
            let bytes: Vec<u8> = (0..draw.below(40_000)).map(|_| draw.below(noise) as u8).collect();
            let row = packer.pack(&bytes);
            assert!(row.len() <= bytes.len() + bytes.len() / 1_000 + 64);
            assert_eq!(unpack("t", 0, &row).unwrap(), bytes);
        }
    }

    #[test]
    fn what_was_packed_before_leaves_no_trace() {
        let (mut used, bytes) = (Packer::new(), b"up up up down up ".repeat(400));
        used.pack(&b"something else".repeat(900));
        assert_eq!(used.pack(&bytes), Packer::new().pack(&bytes));
    }

    #[test]
    fn rows_that_are_no_rows_are_refused() {
        for row in [&[][..], &[2, 1], &[DEFLATED, 0xff, 0xff]] {
            assert!(matches!(unpack("t", 0, row), Err(StoreError::Damaged { .. })), "{row:?}");
        }
    }
}
