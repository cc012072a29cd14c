//! What to do about a word that cannot stand where it does.

use super::parser::Parser;
use super::token::{Class, Token};
use super::vocabulary::{homes_of, items_of, meant, nearest, replaced, values_of};

/// What an item is followed by that takes a name.
pub(super) const A_WORD: &str = "a word";

impl Parser<'_> {
    /// Says what was probably meant. `wanted` is what would have been right behind the item's
    /// first word, if the reader knows it.
    pub fn hint(&self, token: Token<'_>, wanted: Option<&str>) -> Option<String> {
        match token.class {
            Class::End => return self.open_block(),
            Class::Symbol(b'}') if self.blocks.is_empty() => {
                return Some("there is one `}' too many".to_owned());
            }
            Class::Symbol(byte) if byte == 0 || byte >= 128 => {
                return Some("octets outside of ASCII may stand in comments only".to_owned());
            }
            Class::Symbol(_) if wanted.is_none() => return None,
            _ => {}
        }
        let block = self.blocks.last().map_or("", |block| block.word);
        let text = token.string();
        let begins_item = token.place == self.item.place || block == "State";
        if begins_item {
            return keyword(&text, block);
        }
        if let Some(word) = meant(&text, values_of(self.item.word)) {
            return Some(format!("did you mean `{word}'?"));
        }
        if wanted == Some(A_WORD) && reads_as_address(token, &text) {
            return Some(format!(
                "`{text}' is read as an address, as every word of one to four hexadecimal digits: \
                 another name is wanted"
            ));
        }
        let item = self.item.word;
        match (wanted, values_of(item)) {
            (Some(wanted), _) => Some(format!("{wanted} is wanted after `{item}'")),
            (None, []) => None,
            (None, words) => Some(format!("`{item}' is followed by {}", list(words))),
        }
    }

    fn open_block(&self) -> Option<String> {
        let block = self.blocks.last()?;
        Some(format!(
            "a `}}' is missing: the block `{}' of line {} is still open",
            block.word, block.place.line
        ))
    }
}

/// About the first word of an item.
fn keyword(text: &str, block: &str) -> Option<String> {
    match replaced(text) {
        Some("") => {
            return Some(format!("`{text}' is of an old release and has no successor: remove it"));
        }
        Some(new) => return Some(format!("`{text}' is of an old release; today it is {new}")),
        None => {}
    }
    let words = items_of(block);
    let homes = homes_of(text);
    if !homes.is_empty() && !words.contains(&text) {
        return Some(format!("`{text}' stands in {}", list(&homes)));
    }
    if let Some(word) = meant(text, words) {
        return Some(format!("did you mean `{word}'?"));
    }
    let (word, _) = nearest(text, words)?;
    Some(format!("the nearest word that can stand here is `{word}'"))
}

/// Whether a name, as of a device, happens to be a piece of an IPv6 address.
fn reads_as_address(token: Token<'_>, text: &str) -> bool {
    token.class == Class::Address && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Words as a sentence has them; the place outside of all blocks has a name.
fn list(words: &[&str]) -> String {
    let name = |word: &&str| match *word {
        "" => "no block".to_owned(),
        word => format!("`{word}'"),
    };
    words.iter().map(name).collect::<Vec<_>>().join(" or ")
}
