//! The lines an operator adds to the directory file to enrol a key.

use crate::domain::key::{Custody, PublicKey};

/// Enrols a person's key; `person` is a slug.
pub fn person_row(person: &str, key: &PublicKey, custody: Custody) -> String {
    format!(
        "# a new person also needs, above: [people.{person}] with name = \"…\" and roles = [\"approver\"]\n\
         [[people.{person}.keys]]\ncustody = \"{custody}\"\njwk = {}\n",
        inline(key)
    )
}

/// Registers an agent's key; `agent` is a slug.
pub fn agent_row(agent: &str, key: &PublicKey) -> String {
    format!(
        "[agents.{agent}]\nowner = \"…\" # the slug of the person who answers for this agent\nkeys = [{}]\n",
        inline(key)
    )
}

/// A key as TOML, on one line.
pub fn inline(key: &PublicKey) -> String {
    let jwk = key.jwk();
    let y = jwk.y.map(|y| format!(", y = \"{y}\"")).unwrap_or_default();
    format!("{{ kty = \"{}\", crv = \"{}\", x = \"{}\"{y} }}", jwk.kty, jwk.crv, jwk.x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::{Directory, DirectoryDocument};
    use crate::domain::key::SigningKey;

    #[test]
    fn the_rows_enrol_what_they_name() {
        let (ana, bot) = (SigningKey::generate_p256().unwrap(), SigningKey::generate().unwrap());
        let text = format!(
            "[people.ana]\nname = \"Ana\"\nroles = [\"approver\"]\n{}{}",
            person_row("ana", ana.public(), Custody::SshAgent),
            agent_row("bot", bot.public()).replace('…', "ana"),
        );
        let document: DirectoryDocument = toml::from_str(&text).unwrap();
        let directory = Directory::check(document).unwrap();
        let (person, key) = directory.person_by_key(&ana.public().thumbprint()).unwrap();
        assert_eq!((person.as_str(), key.custody), ("ana", Custody::SshAgent));
        assert_eq!(directory.agent_by_key(&bot.public().thumbprint()).unwrap().0.as_str(), "bot");
    }
}
