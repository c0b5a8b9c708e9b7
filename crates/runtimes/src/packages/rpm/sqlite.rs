//! The part of SQLite that is needed to read a whole table of two columns (<https://www.sqlite.org/fileformat2.html>).

/// The first bytes of a database file.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Size of the database's own header on the first page, in bytes.
const HEADER: usize = 100;
/// The page types of a table.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// The second column of `table`; `None` if the database cannot be read.
pub(super) fn blobs(bytes: &[u8], table: &str) -> Option<Vec<Vec<u8>>> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let page_size = match short(bytes, 16)? {
        1 => 65536,
        size => usize::from(size),
    };
    let usable = page_size.checked_sub(usize::from(*bytes.get(20)?))?;
    // The minimum values of SQLite.
    if page_size < 512 || usable < 480 {
        return None;
    }
    let database = Database { bytes, page_size, usable };
    let schema = database.rows(1)?;
    let root = schema.iter().find_map(|row| {
        let columns = columns(row)?;
        let is_it = *columns.first()? == b"table" && *columns.get(1)? == table.as_bytes();
        let root = columns.get(3)?.iter().fold(0, |root: u32, byte| root << 8 | u32::from(*byte));
        is_it.then_some(root)
    });
    let rows = database.rows(root?)?;
    rows.iter().map(|row| Some(columns(row)?.get(1)?.to_vec())).collect()
}

struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// The bytes of a page that SQLite uses.
    usable: usize,
}

impl Database<'_> {
    /// A page by its number, from 1.
    fn page(&self, number: u32) -> Option<&[u8]> {
        let start = usize::try_from(number).ok()?.checked_sub(1)?.checked_mul(self.page_size)?;
        self.bytes.get(start..start.checked_add(self.page_size)?)
    }

    /// The rows of the table whose first page is `root`.
    fn rows(&self, root: u32) -> Option<Vec<Vec<u8>>> {
        let (mut pages, mut rows) = (vec![root], Vec::new());
        // Each page and byte belongs to a table only once, so these limits stop a cycle.
        let (mut pages_left, mut bytes_left) = (self.bytes.len() / self.page_size, self.bytes.len());
        while let Some(number) = pages.pop() {
            pages_left = pages_left.checked_sub(1)?;
            let page = self.page(number)?;
            let header = if number == 1 { HEADER } else { 0 };
            let (is_leaf, cells) = match *page.get(header)? {
                LEAF => (true, header + 8),
                INTERIOR => (false, header + 12),
                _ => return None,
            };
            for cell in 0..usize::from(short(page, header + 3)?) {
                let at = usize::from(short(page, cells + 2 * cell)?);
                if is_leaf {
                    let row = self.row(page, at)?;
                    bytes_left = bytes_left.checked_sub(row.len())?;
                    rows.push(row);
                } else {
                    pages.push(long(page, at)?);
                }
            }
            if !is_leaf {
                pages.push(long(page, header + 8)?);
            }
        }
        Some(rows)
    }

    /// The row of a leaf's cell; the part that does not fit on the page is on a chain of overflow pages.
    fn row(&self, page: &[u8], at: usize) -> Option<Vec<u8>> {
        let (size, at) = varint(page, at)?;
        let (_row_id, at) = varint(page, at)?;
        let size = usize::try_from(size).ok().filter(|size| *size <= self.bytes.len())?;
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = match size {
            _ if size <= most => size,
            _ => {
                Some(least + (size - least) % (self.usable - 4)).filter(|here| *here <= most).unwrap_or(least)
            }
        };
        let mut row = page.get(at..at.checked_add(here)?)?.to_vec();
        let mut next = if here < size { long(page, at + here)? } else { 0 };
        while row.len() < size {
            let page = self.page(next)?;
            next = long(page, 0)?;
            row.extend(page.get(4..4 + (size - row.len()).min(self.usable - 4))?);
        }
        Some(row)
    }
}

/// The columns of a row, as bytes.
fn columns(row: &[u8]) -> Option<Vec<&[u8]>> {
    let (header, mut at) = varint(row, 0)?;
    let mut body = usize::try_from(header).ok()?;
    let mut columns = Vec::new();
    while at < usize::try_from(header).ok()? {
        let (kind, next) = varint(row, at)?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let end = body.checked_add(usize::try_from(size).ok()?)?;
        columns.push(row.get(body..end)?);
        (at, body) = (next, end);
    }
    Some(columns)
}

/// A number of 1 to 9 bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        if place == 8 {
            return Some((value << 8 | u64::from(*byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + place + 1));
        }
    }
    None
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    super::number(bytes, at)
}
