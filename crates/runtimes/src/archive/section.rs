//! A part of a file that is read like a file of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// A part of a file. Each clone has its own position.
#[derive(Clone, Debug)]
pub struct Section {
    file: Arc<File>,
    start: u64,
    size: u64,
    at: u64,
}

impl Section {
    /// `size` bytes of `file`, starting at `start`.
    pub fn new(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { file, start, size, at: 0 }
    }

    /// `size` bytes of this section, starting at `start`.
    pub fn part(&self, start: u64, size: u64) -> Self {
        let start = start.min(self.size);
        Self {
            start: self.start + start,
            size: size.min(self.size - start),
            at: 0,
            file: Arc::clone(&self.file),
        }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..most], self.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
