//! Markup in which external text is always escaped.

use std::borrow::Cow;

/// A piece of a page. Only this crate's source contains markup; everything else is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Adds markup. It is `'static`, so that it cannot be external text.
    pub fn markup(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A value that can be part of a page.
pub trait Piece {
    /// Adds it to `out`.
    fn add_to(&self, out: &mut Html);
}

impl Piece for Html {
    fn add_to(&self, out: &mut Html) {
        out.0.push_str(&self.0);
    }
}

impl Piece for str {
    fn add_to(&self, out: &mut Html) {
        let mut rest = self;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| !stays(*c)) {
            out.0.push_str(&rest[..at]);
            out.0.push_str(match found {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                _ => "\u{fffd}",
            });
            rest = &rest[at + found.len_utf8()..];
        }
        out.0.push_str(rest);
    }
}

/// Whether a character is unchanged in a page. Markup is not, nor are control characters, which HTML does not allow, and those that change
/// the direction of text.
fn stays(c: char) -> bool {
    match c {
        '&' | '<' | '>' | '"' | '\'' => false,
        ' '..='~' | '\n' | '\t' => true,
        c => !c.is_control() && !is_turning(c),
    }
}

/// Whether a character changes the direction of the text (<https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters>).
fn is_turning(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Piece for String {
    fn add_to(&self, out: &mut Html) {
        self.as_str().add_to(out);
    }
}

impl Piece for Cow<'_, str> {
    fn add_to(&self, out: &mut Html) {
        (**self).add_to(out);
    }
}

impl<T: Piece + ?Sized> Piece for &T {
    fn add_to(&self, out: &mut Html) {
        (*self).add_to(out);
    }
}

impl<T: Piece> Piece for Option<T> {
    fn add_to(&self, out: &mut Html) {
        if let Some(piece) = self {
            piece.add_to(out);
        }
    }
}

impl<T: Piece> Piece for [T] {
    fn add_to(&self, out: &mut Html) {
        self.iter().for_each(|piece| piece.add_to(out));
    }
}

impl<T: Piece> Piece for Vec<T> {
    fn add_to(&self, out: &mut Html) {
        self.as_slice().add_to(out);
    }
}

impl Piece for usize {
    fn add_to(&self, out: &mut Html) {
        out.0.push_str(&self.to_string());
    }
}

impl Piece for u64 {
    fn add_to(&self, out: &mut Html) {
        out.0.push_str(&self.to_string());
    }
}

impl Piece for u8 {
    fn add_to(&self, out: &mut Html) {
        out.0.push_str(&self.to_string());
    }
}

/// A part of a whole, as a percentage for an attribute of a picture, so that it is independent of the picture's width.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Piece for Percent {
    fn add_to(&self, out: &mut Html) {
        let text = format!("{:.2}", self.0);
        out.0.push_str(text.trim_end_matches('0').trim_end_matches('.'));
        out.0.push('%');
    }
}

/// Makes a piece of a page: literals are markup, all other values are escaped unless they are [`Html`].
macro_rules! html {
    ($($part:tt)*) => {{
        let mut out = $crate::html::Html::default();
        $crate::html::put!(out, $($part)*);
        out
    }};
}

/// Adds to a piece of a page, like [`html`].
macro_rules! put {
    ($out:expr $(,)?) => {};
    ($out:expr, $markup:literal) => { $out.markup($markup) };
    ($out:expr, $markup:literal, $($rest:tt)*) => {
        $out.markup($markup);
        $crate::html::put!($out, $($rest)*);
    };
    ($out:expr, $piece:expr) => { $crate::html::Piece::add_to(&$piece, &mut $out) };
    ($out:expr, $piece:expr, $($rest:tt)*) => {
        $crate::html::Piece::add_to(&$piece, &mut $out);
        $crate::html::put!($out, $($rest)*);
    };
}

pub(crate) use {html, put};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sources_own_markup_is_markup() {
        let hostile = "</td><script>alert('1')</script> \" onload=\"x & y";
        let inner = html!("<b>", hostile, "</b>");
        let shown = html!("<td title=\"", hostile, "\">", inner, Some(7_usize), None::<String>, "</td>");
        let escaped =
            "&lt;/td&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &quot; onload=&quot;x &amp; y";
        assert_eq!(shown.into_string(), format!("<td title=\"{escaped}\"><b>{escaped}</b>7</td>"));
    }

    #[test]
    fn invalid_characters_are_shown_as_such() {
        let hostile = "a\u{0}b\u{1b}[31mc\u{202e}d\u{2066}e\u{85}f\n\tü→";
        let shown = html!(hostile).into_string();
        assert_eq!(shown, "a\u{fffd}b\u{fffd}[31mc\u{fffd}d\u{fffd}e\u{fffd}f\n\tü→");
    }

    #[test]
    fn percentages_are_short() {
        let shown = html!(Percent(100.0), " ", Percent(0.0), " ", Percent(33.333), " ", Percent(12.5));
        assert_eq!(shown.into_string(), "100% 0% 33.33% 12.5%");
    }
}
