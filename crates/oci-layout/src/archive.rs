//! The tar file of a layout: read by position, written by appending whole files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use registry::Digest;

use crate::place::{Place, hash};

/// Block size of tar, in bytes.
const BLOCK: u64 = 512;

/// The content of a tar file: the position of each blob and each other file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) blobs: HashMap<Digest, Place>,
    pub(crate) files: HashMap<String, Place>,
}

/// Lists the content of a tar file, without reading the files.
pub(crate) fn find(file: &File) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let place = Place { at: entry.raw_file_position(), size: entry.size() };
        let path = entry.path()?;
        let Some(name) = path.to_str().map(|name| name.trim_start_matches("./")) else { continue };
        match blob_name(name) {
            Some(digest) => drop(contents.blobs.insert(digest, place)),
            None => drop(contents.files.insert(name.to_owned(), place)),
        }
    }
    Ok(contents)
}

/// Finds the blobs of an unfinished tar file, reads each, and truncates the file after the last one that is complete and correct.
pub(crate) fn recover(file: &mut File) -> io::Result<HashMap<Digest, Place>> {
    let mut blobs = HashMap::new();
    let mut end = 0;
    file.rewind()?;
    let mut archive = tar::Archive::new(&*file);
    for entry in archive.entries()? {
        // An incomplete header.
        let Ok(mut entry) = entry else { break };
        let place = Place { at: entry.raw_file_position(), size: entry.size() };
        let digest = entry.path().ok().and_then(|path| blob_name(path.to_str()?));
        let Some(digest) = digest else { break };
        match hash(&mut entry) {
            Ok(found) if found == digest => {}
            _ => break,
        }
        end = place.at + place.size.next_multiple_of(BLOCK);
        blobs.insert(digest, place);
    }
    // The last one's padding may be missing.
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok(blobs)
}

/// Appends `size` bytes of `content` as a file, and returns their position.
pub(crate) fn append(file: &mut File, name: &str, size: u64, content: &mut impl Read) -> io::Result<Place> {
    let start = file.stream_position()?;
    let written = write(file, name, size, content);
    if written.is_err() {
        // The next file must not follow an incomplete one.
        file.set_len(start)?;
        file.seek(SeekFrom::Start(start))?;
    }
    written?;
    Ok(Place { at: start + BLOCK, size })
}

fn write(file: &mut File, name: &str, size: u64, content: &mut impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    // The same images give the same file.
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    file.write_all(header.as_bytes())?;
    let copied = io::copy(content, file)?;
    if copied != size {
        return Err(io::Error::other(format!("{name} has {copied} bytes instead of {size}")));
    }
    let padding = size.next_multiple_of(BLOCK) - size;
    io::copy(&mut io::repeat(0).take(padding), file)?;
    Ok(())
}

/// Ends a tar file: two empty blocks.
pub(crate) fn end(file: &mut File) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(2 * BLOCK), file)?;
    file.sync_all()
}

/// A file of a tar file, in memory.
pub(crate) fn read(path: &Path, place: Place) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(place.at))?;
    let mut bytes = Vec::new();
    file.take(place.size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The digest of the blob in this file.
fn blob_name(name: &str) -> Option<Digest> {
    let hex = name.trim_start_matches("./").strip_prefix("blobs/sha256/")?;
    format!("sha256:{hex}").parse().ok()
}
