//! What a rule remembers: one block of bytes a member, all of the same size. A new member's is all zero.

/// All members' blocks, in the order of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    bytes: Vec<u8>,
    row: usize,
}

impl Memory {
    /// Checks the length.
    ///
    /// # Errors
    /// The bytes are not `population` blocks of `row` bytes.
    pub fn new(bytes: Vec<u8>, population: usize, row: u32) -> Result<Self, String> {
        let row = row as usize;
        let expected = population.saturating_mul(row);
        if bytes.len() == expected {
            return Ok(Self { bytes, row });
        }
        Err(format!("memory has {} bytes; {population} members of {row} bytes are {expected}", bytes.len()))
    }

    /// Block after block, to read and to write. Empty when the rule remembers nothing.
    pub fn blocks(&mut self) -> impl Iterator<Item = &mut [u8]> {
        // A block of no bytes would repeat for ever; there are no bytes then, so any size gives nothing.
        self.bytes.chunks_exact_mut(self.row.max(1))
    }

    /// One member's block.
    pub fn block(&mut self, index: usize) -> Option<&mut [u8]> {
        let start = index.checked_mul(self.row)?;
        self.bytes.get_mut(start..start.checked_add(self.row)?)
    }

    /// Everything as one slice.
    #[must_use]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
