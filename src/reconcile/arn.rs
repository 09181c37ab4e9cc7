//! Names of AWS resources and what fits them: patterns as IAM reads them, and names of which a record tells a part only.

/// One place of a pattern, or of a name that is known in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    /// This character.
    Char(char),
    /// One character, whichever.
    One,
    /// Any number of them.
    Many,
}

/// A pattern of a policy (IAM User Guide, "Resource": `*` and `?`).
pub(super) fn pattern(text: &str) -> Vec<Piece> {
    let piece = |c| match c {
        '*' => Piece::Many,
        '?' => Piece::One,
        c => Piece::Char(c),
    };
    text.chars().map(piece).collect()
}

/// A text as it stands, stars and all.
pub(super) fn literal(text: &str) -> Vec<Piece> {
    text.chars().map(Piece::Char).collect()
}

/// Whether everything that `text` can be fits the pattern. At most the product of their lengths.
pub(super) fn fits(pattern: &[Piece], text: &[Piece]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(letter) = text.get(t) {
        match (pattern.get(p), letter) {
            (Some(Piece::Many), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(Piece::One), Piece::Char(_) | Piece::One) => (p, t) = (p + 1, t + 1),
            (Some(Piece::Char(wanted)), Piece::Char(c)) if wanted == c => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, t) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|piece| *piece == Piece::Many))
}

/// Whether there is a text that fits both.
pub(super) fn meets(one: &[Piece], other: &[Piece]) -> bool {
    // `row[j]`: whether what was read of `one` can be what the first `j` of `other` are.
    let mut row: Vec<bool> = std::iter::once(true)
        .chain(other.iter().scan(true, |open, piece| {
            *open = *open && *piece == Piece::Many;
            Some(*open)
        }))
        .collect();
    for letter in one {
        let above = row.clone();
        let mut left = above.first().copied().unwrap_or(false) && *letter == Piece::Many;
        let mut next = vec![left];
        for (piece, both) in other.iter().zip(above.windows(2)) {
            let (slant, over) = (both.first() == Some(&true), both.last() == Some(&true));
            left = match (letter, piece) {
                (Piece::Many, Piece::Many) => slant || over || left,
                (Piece::Many, _) => over || left,
                (_, Piece::Many) => left || over,
                (Piece::Char(a), Piece::Char(b)) => slant && a == b,
                _ => slant,
            };
            next.push(left);
        }
        row = next;
    }
    row.last() == Some(&true)
}

/// Whether a resource of a policy is the one of this name. Where AWS adds to a name that is unique (the path of a role, the
/// end of a secret's ARN), the record need not tell it, but then the policy must be exact.
pub(super) fn is_resource(resource: &str, name: &[Piece]) -> bool {
    let written = pattern(resource);
    let exact = written.iter().all(|piece| matches!(piece, Piece::Char(_)));
    fits(&written, name) || (exact && fits(name, &written))
}

/// An ARN, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) partition: &'a str,
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    /// What follows the account.
    pub(super) path: &'a str,
}

impl<'a> Arn<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (begin, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, path) = (parts.next()?, parts.next()?, parts.next()?);
        (begin == "arn" && !path.is_empty()).then_some(Self { partition, service, region, account, path })
    }

    /// `instance` of `instance/i-1`; nothing where the path is a name alone.
    pub(super) fn kind(&self) -> Option<&'a str> {
        self.path.split_once(['/', ':']).map(|(kind, _)| kind)
    }

    /// What stands last.
    fn last(&self) -> &'a str {
        self.path.rsplit(['/', ':']).next().unwrap_or(self.path)
    }
}

/// Whether a text looks like the name of a resource: an ARN, or an id such as `i-0123456789abcdef0`.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with("arn:") || form(text).is_some()
}

/// Whether `text` names a thing of the same kind as this ARN: an ARN of the same service and type, or an id of the same
/// form.
pub(super) fn same_kind(resource: &str, text: &str) -> bool {
    let Some(resource) = Arn::parse(resource) else { return false };
    match Arn::parse(text) {
        Some(other) => {
            other.service == resource.service && other.kind().is_some() && other.kind() == resource.kind()
        }
        None => form(text).is_some() && form(resource.last()) == form(text),
    }
}

/// Whether `text` is the id that this ARN ends with.
pub(super) fn ends_with_id(resource: &str, text: &str) -> bool {
    form(text).is_some() && Arn::parse(resource).is_some_and(|arn| arn.last() == text)
}

/// The letters before the hexadecimal digits of an id.
fn form(id: &str) -> Option<&str> {
    let (letters, digits) = id.split_once('-')?;
    let fits = (1..=8).contains(&letters.len())
        && letters.bytes().all(|b| b.is_ascii_lowercase())
        && (8..=17).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_fit_what_iam_says_they_fit() {
        let of = |written: &str, text: &str| fits(&pattern(written), &literal(text));
        for (written, text) in
            [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("a*b*c", "axbxbxc"), ("é*", "éa")]
        {
            assert!(of(written, text), "{written} {text}");
        }
        for (written, text) in [("", "a"), ("a*c", "abb"), ("a?c", "ac"), ("abc", "abcd"), ("abc", "a*")] {
            assert!(!of(written, text), "{written} {text}");
        }
    }

    #[test]
    fn what_is_not_known_fits_a_star_or_an_exact_name_and_nothing_between() {
        let role = [literal("role/"), vec![Piece::Many], literal("/checkout")].concat();
        assert!(is_resource("role/app/checkout", &role) && is_resource("role/*", &role));
        for other in ["role/app/*", "role/app/other", "role/checkout", "role/a?p/checkout", "rol/x/checkout"]
        {
            assert!(!is_resource(other, &role), "{other}");
        }
        let secret = [literal("secret:main-"), vec![Piece::One; 6]].concat();
        assert!(is_resource("secret:main-a1B2c3", &secret) && is_resource("secret:main-??????", &secret));
        for other in ["secret:main-old-a1B2c3", "secret:main-a1B2c", "secret:main-a1B2??", "secret:mai*3"] {
            assert!(!is_resource(other, &secret), "{other}");
        }
    }

    #[test]
    fn two_patterns_meet_where_one_text_fits_both() {
        let of = |one: &str, other: &str| {
            (meets(&pattern(one), &pattern(other)), meets(&pattern(other), &pattern(one)))
        };
        for (one, other) in [
            ("a*", "*b"),
            ("*", ""),
            ("role/app/*", "role/*/checkout"),
            ("a?c", "abc"),
            ("*", "*"),
            ("a*b", "ab"),
        ] {
            assert_eq!(of(one, other), (true, true), "{one} {other}");
        }
        for (one, other) in
            [("a", ""), ("g:*:n/web", "g:*:n/web-2"), ("a?", "a"), ("*b", "*c"), ("ab", "a?c")]
        {
            assert_eq!(of(one, other), (false, false), "{one} {other}");
        }
    }

    #[test]
    fn a_star_in_a_name_is_a_character() {
        assert!(!is_resource("service/prod/checkout", &literal("service/prod/*")));
        assert!(is_resource("service/prod/*", &literal("service/prod/*")));
    }

    #[test]
    fn ids_are_told_by_their_form() {
        let instance = "arn:aws:ec2:r:1:instance/i-0a1b2c3d4e5f60718";
        assert!(same_kind(instance, "i-00000000000000001") && is_name("sg-0a1b2c3d"));
        assert!(
            ends_with_id(instance, "i-0a1b2c3d4e5f60718") && !ends_with_id(instance, "i-00000000000000001")
        );
        for other in ["sg-0a1b2c3d4e5f60718", "web", "i-xyz", "arn:aws:ec2:r:1:volume/vol-1"] {
            assert!(!same_kind(instance, other), "{other}");
        }
    }
}
