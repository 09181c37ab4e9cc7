//! `--param NAME=VALUE`: a whole number where VALUE is one, text otherwise; `--param-text` is always text.

use std::collections::BTreeMap;

use serde_json::Value;

/// Parameters of a proposal; a name given twice is a mistake.
pub fn parameters(guessed: &[String], text: &[String]) -> Result<BTreeMap<String, Value>, String> {
    let mut all = BTreeMap::new();
    let guessed = guessed.iter().map(|given| (given, true));
    for (given, may_be_number) in guessed.chain(text.iter().map(|given| (given, false))) {
        let (name, value) = given
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("`{}` is not NAME=VALUE", given.escape_debug()))?;
        let value = match value.parse::<i64>() {
            // `007` and `+7` are text: a number has one spelling.
            Ok(number) if may_be_number && number.to_string() == value => Value::from(number),
            _ => Value::from(value),
        };
        if all.insert(name.to_owned(), value).is_some() {
            return Err(format!("the parameter `{}` is given twice", name.escape_debug()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(guessed: &[&str], text: &[&str]) -> Result<BTreeMap<String, Value>, String> {
        let owned = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        parameters(&owned(guessed), &owned(text))
    }

    #[test]
    fn whole_numbers_are_numbers_unless_said_otherwise() {
        let all = given(&["count=5", "delta=-2", "id=i-0a", "code=007", "q=a=b"], &["account=1234"]).unwrap();
        assert_eq!((&all["count"], &all["delta"]), (&Value::from(5), &Value::from(-2)));
        assert_eq!((&all["id"], &all["code"]), (&Value::from("i-0a"), &Value::from("007")));
        assert_eq!((&all["q"], &all["account"]), (&Value::from("a=b"), &Value::from("1234")));
    }

    #[test]
    fn a_parameter_without_a_name_or_given_twice_is_a_mistake() {
        assert!(given(&["x"], &[]).is_err());
        assert!(given(&["=x"], &[]).is_err());
        assert!(given(&["a=1"], &["a=1"]).is_err());
    }
}
