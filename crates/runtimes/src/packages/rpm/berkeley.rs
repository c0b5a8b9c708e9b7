//! The part of Berkeley DB that is needed to read the values of a hash table
//! (<https://github.com/berkeleydb/libdb/blob/master/src/dbinc/db_page.h>).

/// Identifies a hash table, at byte 12 of the first page.
const MAGIC: u32 = 0x0006_1561;
/// Size of a page's own header, in bytes.
const HEADER: usize = 26;
/// Page types: keys and values, unsorted or sorted, and values that are too long for those.
const TABLE: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
/// A value on the page itself, and one on overflow pages.
const INLINE: u8 = 1;
const ELSEWHERE: u8 = 3;
/// Size of the counter that rpm keeps under the key 0; every header is longer.
const COUNTER: usize = 4;

/// The values except the counter; `None` if the table cannot be read.
pub(super) fn values(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    // Little-endian, as no image is for a big-endian machine.
    if long(bytes, 12)? != MAGIC {
        return None;
    }
    let size = usize::try_from(long(bytes, 20)?).ok().filter(|size| (512..=65536).contains(size))?;
    let (mut values, mut bytes_left) = (Vec::new(), bytes.len());
    for page in bytes.chunks_exact(size).skip(1).filter(|page| TABLE.contains(&page[25])) {
        let offset = |item: usize| short(page, HEADER + 2 * item).map(usize::from);
        // A key, then its value. They fill the page from its end.
        for item in (1..usize::from(short(page, 20)?)).step_by(2) {
            let at = offset(item)?;
            let value = match *page.get(at)? {
                INLINE => page.get(at + 1..offset(item - 1)?)?.to_vec(),
                ELSEWHERE => chain(bytes, size, long(page, at + 4)?, long(page, at + 8)?)?,
                _ => return None,
            };
            bytes_left = bytes_left.checked_sub(value.len())?;
            values.extend(Some(value).filter(|value| value.len() > COUNTER));
        }
    }
    Some(values)
}

/// A value of `length` bytes that starts on page `next`.
fn chain(bytes: &[u8], page_size: usize, mut next: u32, length: u32) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    let mut value = Vec::new();
    while value.len() < length {
        let start = usize::try_from(next).ok()?.checked_mul(page_size)?;
        let page = bytes.get(start..start.checked_add(page_size)?).filter(|page| page[25] == OVERFLOW)?;
        let here = usize::from(short(page, 22)?).min(length - value.len());
        if here == 0 {
            return None;
        }
        value.extend(page.get(HEADER..HEADER + here)?);
        next = long(page, 16)?;
    }
    Some(value)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
