//! Why a proposal is refused by the catalog: one variant per mistake, each saying what to ask for instead.

use super::iam::ResourceMismatch;
use crate::domain::plan::MAX_SESSION_POLICY_CHARS;

/// Why a proposal cannot become a plan. Names and values that an agent wrote are shown escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No such entry.
    #[error("the catalog has no `{0}`: ask for one that it lists")]
    UnknownType(String),
    /// Not there.
    #[error("`{name}` is not allowed in `{environment}`, only in {allowed}")]
    Environment {
        /// The action type or set.
        name: String,
        /// The environment asked for.
        environment: String,
        /// Where it is allowed.
        allowed: String,
    },
    /// A parameter the action type does not have.
    #[error("there is no parameter `{name}`; the parameters are {known}")]
    UnknownParameter {
        /// As written, escaped.
        name: String,
        /// The names it has.
        known: String,
    },
    /// A parameter was left out.
    #[error("the parameter `{name}` is missing")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// Another JSON type.
    #[error("the parameter `{name}` must be {expected}")]
    WrongType {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Too long.
    #[error("the parameter `{name}` is longer than {longest} characters")]
    TooLong {
        /// Its name.
        name: String,
        /// Its longest length.
        longest: usize,
    },
    /// A character that IAM or JSON would interpret, or that is not printable ASCII.
    #[error("the parameter `{name}` holds the character {character}, which no parameter may hold")]
    Forbidden {
        /// Its name.
        name: String,
        /// The character, escaped.
        character: String,
    },
    /// It does not match its pattern.
    #[error("the parameter `{name}` does not match `{pattern}`")]
    Pattern {
        /// Its name.
        name: String,
        /// The pattern.
        pattern: String,
    },
    /// Outside its range.
    #[error("the parameter `{name}` must be within {min} to {max}")]
    OutOfRange {
        /// Its name.
        name: String,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Not one of its words.
    #[error("the parameter `{name}` must be one of {values}")]
    NotAChoice {
        /// Its name.
        name: String,
        /// The words.
        values: String,
    },
    /// It stands in a tag of the session, and AWS takes no such tag.
    #[error(
        "the parameter `{name}` becomes a tag of the session, and those hold letters, digits, space and _ . : / = + - @ only, \
         at most 256: ask for another value"
    )]
    NoTag {
        /// Its name.
        name: String,
    },
    /// Zero or too long.
    #[error("{asked} seconds of work were asked for: ask for 1 to {longest}")]
    WorkSeconds {
        /// What was asked for.
        asked: u32,
        /// The longest.
        longest: u32,
    },
    /// A precondition that is no plain name and value.
    #[error(
        "precondition {at} is refused: at most 16, each with its own name and a value, both 1 to 128 plain characters"
    )]
    Precondition {
        /// Its place.
        at: usize,
    },
    /// An ARN that is no exact resource of the action.
    #[error(transparent)]
    Resource(#[from] ResourceMismatch),
    /// An ARN of another account, region or partition.
    #[error("`{arn}` is not of the {member} `{expected}` of this environment")]
    Foreign {
        /// The ARN.
        arn: String,
        /// Which part.
        member: &'static str,
        /// What it must be.
        expected: String,
    },
    /// One of our own roles, or something the operator protects.
    #[error("`{arn}` is protected: no action may touch the broker's own roles, policies or boundary")]
    Protected {
        /// The ARN.
        arn: String,
    },
    /// STS would refuse it.
    #[error(
        "the session policy has {characters} characters, and STS takes at most {MAX_SESSION_POLICY_CHARS}; most of it is \
         the statement for {longest}, with {of_it}: propose shorter values, or ask the catalog's operator to split it"
    )]
    PolicyTooLong {
        /// Its length.
        characters: usize,
        /// The actions of its longest statement.
        longest: String,
        /// How long that is.
        of_it: usize,
    },
    /// The policy could not be written as JSON.
    #[error("the session policy cannot be written: {0}")]
    NotWritten(String),
}
