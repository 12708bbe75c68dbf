//! A hop path as one string: `CloudEvents` attributes have no lists.

use crate::event::Str;

/// Joined by commas; `%` and commas within a hop are escaped. Not for an
/// empty path, which is an absent member: the empty string is one empty hop.
pub(super) fn join(hops: &[Str]) -> String {
    let mut out = String::new();
    for (n, hop) in hops.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        for c in hop.chars() {
            match c {
                '%' => out.push_str("%25"),
                ',' => out.push_str("%2C"),
                c => out.push(c),
            }
        }
    }
    out
}

/// The path again; `None` when there is another `%` than those that
/// [`join`] writes.
pub(super) fn split(text: &str) -> Option<Vec<Str>> {
    text.split(',')
        .map(|hop| {
            let mut parts = hop.split('%');
            let mut out = Str::from(parts.next().unwrap_or_default());
            for part in parts {
                let (c, rest) = match part.split_at_checked(2)? {
                    ("25", rest) => ('%', rest),
                    ("2C", rest) => (',', rest),
                    _ => return None,
                };
                out.push(c);
                out.push_str(rest);
            }
            Some(out)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_comes_back() {
        for path in [&["a"][..], &["a", "b"], &["", ""], &[""], &["a,b", "100%"], &["%2C", ",%"]] {
            let hops: Vec<Str> = path.iter().map(|hop| Str::from(*hop)).collect();
            assert_eq!(split(&join(&hops)), Some(hops.clone()), "{}", join(&hops));
        }
        assert_eq!(join(&["a,b".into(), "100%".into()]), "a%2Cb,100%25");
        for bad in ["%", "%2", "%2c", "%41", "a%é"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
