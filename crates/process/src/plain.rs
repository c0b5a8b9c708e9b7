//! Removes terminal control sequences from the output of other programs and servers.
//!
//! A build's output, a registry's error text or an image's label may contain escape sequences. They can change colours or the
//! window title, or overwrite the lines above.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

const BELL: char = '\u{7}';
const ESCAPE: char = '\u{1b}';
/// The one-character forms (C1) of `ESC [`, of `ESC \` and of the sequences that start a string.
const C1_SEQUENCE: char = '\u{9b}';
const C1_END: char = '\u{9c}';
const C1_STRING: [char; 5] = ['\u{90}', '\u{98}', '\u{9d}', '\u{9e}', '\u{9f}'];

/// `text` without control sequences and control characters; newlines and tabs stay. If carriage returns overwrite a line, only its
/// last version stays.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut line = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.push(c);
                line = out.len();
            }
            // At the end of a line a carriage return overwrites nothing.
            '\r' if !matches!(chars.peek(), None | Some('\r' | '\n')) => out.truncate(line),
            ESCAPE => skip_escape(&mut chars),
            C1_SEQUENCE => skip_sequence(&mut chars),
            c if C1_STRING.contains(&c) => skip_string(&mut chars),
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Skips the sequence after ESC (ECMA-48, sections 5.3 to 5.6).
fn skip_escape(chars: &mut Peekable<Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_sequence(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        _ => {
            while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
            chars.next_if(|c| ('0'..='~').contains(c));
        }
    }
}

/// Skips the parameters, intermediates and final character of a control sequence.
fn skip_sequence(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    chars.next_if(|c| ('@'..='~').contains(c));
}

/// Skips a string up to its terminator: BEL, ESC \ or C1's. An unterminated one ends with its line.
fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            BELL | C1_END => return,
            ESCAPE if chars.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_control_sequence_is_left() {
        for (text, wanted) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[91mseq: unrecognized option\u{1b}[0m", "seq: unrecognized option"),
            ("\u{1b}[33m1 warning\u{1b}[0m - x", "1 warning - x"),
            ("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\c", "abc"),
            ("a\u{1b}Pq#0\u{9c}b\u{9b}2Jc\u{9d}0;t\u{7}d", "abcd"),
            ("a\u{1b}(Bb\u{1b}7c\u{1b}[?25ld", "abcd"),
            ("10%\r20%\r100% fetched", "100% fetched"),
            ("first\r\nsecond\r\r\n", "first\nsecond\n"),
            ("a\u{8}b\u{0}c\u{7f}", "abc"),
            ("open \u{1b}]0;no end\nnext", "open \nnext"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
            ("ü\u{1b}[1m→", "ü→"),
        ] {
            assert_eq!(plain(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn no_input_produces_a_control_character() {
        let alphabet =
            ['\u{1b}', '[', ']', '\\', '\u{7}', '\u{9b}', '\u{9c}', '\r', '\n', 'm', '3', ';', 'x'];
        let mut state = 7_u64;
        for _ in 0..5_000 {
            let text: String = (0..12)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
                })
                .collect();
            let shown = plain(&text);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{text:?} gives {shown:?}");
            assert_eq!(plain(&shown), shown);
        }
    }
}
