//! Lists in pages.
//!
//! A list is ordered by namespace and name; a page token says after which object to go on. So a
//! token never expires, and objects that come or go between two pages neither repeat nor hide
//! others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jmp_types::resource::Key;
use prost::Message;
use tonic::Status;

/// The largest page that can be asked for. More is cut to this.
pub const PAGE_LIMIT: usize = 1000;
/// A page ends before it gets larger than this many bytes: released clients accept messages of
/// 4 MiB, and a list without `page_size` is meant to be everything.
const SIZE_LIMIT: usize = 3 * 1024 * 1024;
/// The first byte of a token; another meaning of the rest would get another one.
const VERSION: u8 = 1;

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The list that the token belongs to.
    list: &'static str,
    limit: usize,
    after: Option<Key>,
}

// === impl Page ===

impl Page {
    /// Reads a request for a part of `list`, a word for kind and method. `size` 0 means everything
    /// that fits into one message.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a negative size and for a token that this list did not give.
    pub fn new(list: &'static str, size: i32, token: &str) -> Result<Self, Status> {
        let limit = match usize::try_from(size) {
            Ok(0) => usize::MAX,
            Ok(size) => size.min(PAGE_LIMIT),
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "page_size is {size}: use 0 for everything or a positive number"
                )));
            }
        };
        let after = match token {
            "" => None,
            token => Some(decode(list, token).ok_or_else(|| {
                Status::invalid_argument(
                    "page_token is not one of this list: begin again without one",
                )
            })?),
        };
        Ok(Self { list, limit, after })
    }

    /// Whether the object with that key comes after what earlier pages had.
    #[must_use]
    pub fn is_new(&self, key: &Key) -> bool {
        self.after.as_ref().is_none_or(|after| key > after)
    }

    /// Takes the page out of `objects`, which are ordered by key, and makes messages of them.
    /// Also returns the token of the next page, empty after the last one.
    pub fn take<T, M: Message>(
        &self,
        objects: impl Iterator<Item = (Key, T)>,
        mut convert: impl FnMut(T) -> M,
    ) -> (Vec<M>, String) {
        let mut found = Vec::new();
        let mut size = 0;
        let mut last: Option<Key> = None;
        for (key, object) in objects.filter(|(key, _)| self.is_new(key)) {
            if found.len() >= self.limit {
                return (found, self.token(last.as_ref()));
            }
            let message = convert(object);
            // Tag and length of the entry take a few bytes more.
            size += message.encoded_len() + 8;
            if size > SIZE_LIMIT && !found.is_empty() {
                return (found, self.token(last.as_ref()));
            }
            found.push(message);
            last = Some(key);
        }
        (found, String::new())
    }

    fn token(&self, last: Option<&Key>) -> String {
        let Some(last) = last else {
            return String::new();
        };
        let mut bytes = vec![VERSION];
        bytes.extend([self.list, &last.namespace, &last.name].join("\n").bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn decode(list: &str, token: &str) -> Option<Key> {
    // Longer than the longest names.
    if token.len() > 1024 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, text) = bytes.split_first()?;
    let mut parts = std::str::from_utf8(text).ok()?.split('\n');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    (*version == VERSION && found.0 == list && parts.next().is_none())
        .then(|| Key::new(found.1, found.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(count: usize) -> Vec<(Key, String)> {
        (0..count)
            .map(|number| (Key::new("lab", format!("o{number:05}")), "x".repeat(1024)))
            .collect()
    }

    fn page(size: i32, token: &str, objects: &[(Key, String)]) -> (Vec<String>, String) {
        let page = Page::new("things", size, token).unwrap();
        page.take(objects.iter().cloned(), |text| text)
    }

    #[test]
    fn ten_objects_take_two_pages_of_five() {
        let objects = objects(10);
        let (first, token) = page(5, "", &objects);
        assert_eq!(first.len(), 5);
        let (second, end) = page(5, &token, &objects);
        assert_eq!(second.len(), 5);
        assert_eq!(end, "");
        assert_eq!(page(0, "", &objects).0.len(), 10);
    }

    #[test]
    fn what_comes_and_goes_repeats_nothing() {
        let mut objects = objects(6);
        let (_, token) = page(3, "", &objects);
        objects.remove(2);
        objects.insert(0, (Key::new("lab", "a"), String::new()));
        assert_eq!(page(9, &token, &objects).0.len(), 3);
    }

    #[test]
    fn pages_fit_into_a_message() {
        let objects = objects(10_000);
        let (first, token) = page(0, "", &objects);
        assert!(
            first.len() < 3 * 1024 && first.len() > 2 * 1024,
            "{}",
            first.len()
        );
        assert!(!token.is_empty());
        assert_eq!(page(i32::MAX, "", &objects).0.len(), PAGE_LIMIT);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let (_, token) = page(1, "", &objects(2));
        for bad in ["x", "AAAA", "!", &token[1..], &"A".repeat(100_000)] {
            let refused = Page::new("things", 1, bad).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{bad}");
        }
        Page::new("others", 1, &token).unwrap_err();
        Page::new("things", 1, &token).unwrap();
        Page::new("things", -1, "").unwrap_err();
    }
}
