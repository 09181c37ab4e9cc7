//! Patterns of IAM (`*` and `?`) compared with one another: whether one matches everything that the other does.

/// Whether `outer` matches whatever `inner` matches. Never true where it is not so; `inner` may hold wildcards itself.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    let (outer, inner): (Vec<char>, Vec<char>) = (outer.chars().collect(), inner.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&wanted) = inner.get(of) {
        match outer.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            // `?` stands for one character, which a `*` of the other need not be.
            Some('?') if wanted != '*' => (at, of) = (at + 1, of + 1),
            Some(&same) if same == wanted && same != '?' => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, of) = (after + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    outer.iter().skip(at).all(|&rest| rest == '*')
}

/// The same for names of actions, which IAM compares without regard to case.
pub(super) fn covers_action(outer: &str, inner: &str) -> bool {
    covers(&outer.to_ascii_lowercase(), &inner.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_matches_whole_and_nothing_more() {
        for (outer, inner) in [
            ("*", "*"),
            ("*", ""),
            ("a*", "a*"),
            ("a*", "ab?c*"),
            ("a?c", "abc"),
            ("a?c", "a?c"),
            ("*b*", "abc"),
            ("i-*", "i-?*"),
            ("a*b*c", "aXbbYc"),
        ] {
            assert!(covers(outer, inner), "{outer} covers {inner}");
        }
        for (outer, inner) in [
            ("a*", "*"),
            ("?*", "*"),
            ("a?c", "a*c"),
            ("abc", "ab?"),
            ("abc", "abcd"),
            ("i-*", "sg-1"),
            ("a*b", "a*"),
            ("", "*"),
        ] {
            assert!(!covers(outer, inner), "{outer} does not cover {inner}");
        }
        assert!(covers_action("EC2:reboot*", "ec2:RebootInstances"));
    }
}
