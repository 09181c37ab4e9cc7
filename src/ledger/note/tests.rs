//! Signed notes: what is read, what is refused, and whose lines count.

use super::*;

const TEXT: &str = "first\n\nsecond\n";

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn parse(text: &str) -> Result<SignedNote, NoteError> {
    SignedNote::parse(text.as_bytes())
}

#[test]
fn a_note_is_read_back_and_verified_by_its_key_and_no_other() {
    let (key, stranger) = (key(), key());
    let signer = NoteSigner::new("log.example/1", &key).unwrap();
    let note = signer.sign(TEXT).unwrap();
    let again = parse(&note.to_string()).unwrap();
    assert_eq!(again, note);
    let keys = [signer.verifier().clone()];
    let signed = again.verify(&keys).unwrap();
    assert_eq!(signed, [Signed { key: &keys[0], at: None }]);

    let other = NoteSigner::new("log.example/1", &stranger).unwrap();
    assert_eq!(again.verify(&[other.verifier().clone()]), Err(NoteError::NoKnownSignature));
    let renamed = NoteSigner::new("log.example/2", &key).unwrap();
    assert_eq!(again.verify(&[renamed.verifier().clone()]), Err(NoteError::NoKnownSignature));
    assert_eq!(again.verify(&[]), Err(NoteError::NoKnownSignature));
}

#[test]
fn the_example_of_the_go_note_package_verifies() {
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let note = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let keys = [key.parse().unwrap()];
    assert_eq!(parse(note).unwrap().verify(&keys).unwrap().len(), 1);
    let edited = parse(&note.replace("answer", "question")).unwrap();
    assert_eq!(edited.verify(&keys), Err(NoteError::BadSignature("PeterNeumann".into())));
}

#[test]
fn any_flipped_bit_of_a_note_is_noticed() {
    let key = key();
    let signer = NoteSigner::new("log.example/1", &key).unwrap();
    let keys = [signer.verifier().clone()];
    let bytes = signer.sign(TEXT).unwrap().to_string().into_bytes();
    assert!(SignedNote::parse(&bytes).unwrap().verify(&keys).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let believed = SignedNote::parse(&flipped).and_then(|note| note.verify(&keys).map(drop));
        assert!(believed.is_err(), "bit {bit}");
    }
}

#[test]
fn signatures_of_strangers_are_ignored_and_a_wrong_one_of_a_known_key_is_not() {
    let (known, stranger) = (key(), key());
    let known = NoteSigner::new("known", &known).unwrap();
    let stranger = NoteSigner::new("stranger", &stranger).unwrap();
    let nonsense = SignatureLine { name: "nonsense".into(), id: 7, signature: vec![1] };
    let note = known.sign(TEXT).unwrap();
    let both = note
        .with_lines(stranger.sign(TEXT).unwrap().lines())
        .and_then(|note| note.with_lines(&[nonsense]))
        .unwrap();
    let keys = [known.verifier().clone()];
    assert_eq!(both.verify(&keys).unwrap().len(), 1);

    // The same stranger, once known, with a signature over something else.
    let wrong = note.with_lines(stranger.sign("else\n").unwrap().lines()).unwrap();
    assert!(wrong.verify(&keys).is_ok());
    let keys = [known.verifier().clone(), stranger.verifier().clone()];
    assert_eq!(wrong.verify(&keys), Err(NoteError::BadSignature("stranger".into())));
}

#[test]
fn a_repeated_signature_counts_once() {
    let key = key();
    let signer = NoteSigner::new("log", &key).unwrap();
    let note = signer.sign(TEXT).unwrap();
    let line = note.lines()[0].clone();
    assert_eq!(note.with_lines(std::slice::from_ref(&line)).unwrap().lines().len(), 1);
    let twice = parse(&format!("{note}{line}\n")).unwrap();
    assert_eq!(twice.lines().len(), 2);
    assert_eq!(twice.verify(&[signer.verifier().clone()]).unwrap().len(), 1);
}

#[test]
fn a_note_is_reduced_to_what_one_key_really_signed() {
    let (known, stranger) = (key(), key());
    let known = NoteSigner::new("known", &known).unwrap();
    let stranger = NoteSigner::new("stranger", &stranger).unwrap();
    let note = known.sign(TEXT).unwrap();
    let both = note.with_lines(stranger.sign("else\n").unwrap().lines()).unwrap();
    assert_eq!(both.only_by(known.verifier()), Some(note));
    assert_eq!(both.only_by(stranger.verifier()), None);
}

#[test]
fn what_is_not_exactly_a_note_is_refused() {
    let key = key();
    let note = NoteSigner::new("log", &key).unwrap().sign(TEXT).unwrap();
    let whole = note.to_string();
    let line = note.lines()[0].to_string();
    let base64 = line.rsplit(' ').next().unwrap();
    assert!(parse(&whole).is_ok());
    for (what, wrong) in [
        ("empty", String::new()),
        ("no signature", TEXT.to_owned()),
        ("no signature line", format!("{TEXT}\n")),
        ("CRLF", whole.replace('\n', "\r\n")),
        ("no last newline", whole.trim_end().to_owned()),
        ("an empty line after", format!("{whole}\n")),
        ("a text line after", format!("{whole}more\n")),
        ("a hyphen", whole.replace('—', "-")),
        ("two spaces", whole.replace("— log ", "— log  ")),
        ("a space after", format!("{} \n", whole.trim_end())),
        ("a tab", whole.replace("first", "fir\tst")),
        ("a NUL", whole.replace("first", "fir\0st")),
        ("no name", whole.replace("— log ", "—  ")),
        ("a plus in the name", whole.replace("— log ", "— l+g ")),
        ("truncated base64", whole.replace(base64, &base64[..base64.len() - 1])),
        ("unpadded base64", whole.replace(base64, base64.trim_end_matches('='))),
        ("an id and no signature", whole.replace(base64, "AAAAAA==")),
        ("less than an id", whole.replace(base64, "AAAA")),
        ("only signatures", format!("{line}\n")),
    ] {
        assert!(matches!(parse(&wrong), Err(NoteError::Malformed(_))), "{what}: {wrong:?}");
    }
    assert!(matches!(SignedNote::parse(b"a\xff\n\n"), Err(NoteError::Malformed(_))));
}

#[test]
fn trailing_bits_of_a_signature_are_refused() {
    let key = key();
    let note = NoteSigner::new("log", &key).unwrap().sign(TEXT).unwrap().to_string();
    // 68 bytes leave one padding character and two spare bits.
    let at = note.rfind('=').unwrap() - 1;
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = alphabet.find(&note[at..=at]).unwrap();
    let stray = format!("{}{}{}", &note[..at], &alphabet[last + 1..last + 2], &note[at + 1..]);
    assert!(parse(&stray).is_err());
}

#[test]
fn a_note_is_bounded_in_bytes_and_signatures() {
    let key = key();
    let signer = NoteSigner::new("log", &key).unwrap();
    let line = signer.sign(TEXT).unwrap().lines()[0].to_string();
    let with = |lines: usize| format!("{TEXT}\n{}", format!("{line}\n").repeat(lines));
    assert!(parse(&with(SIGNATURES)).is_ok());
    assert_eq!(parse(&with(SIGNATURES + 1)), Err(NoteError::TooManySignatures));
    let over = with(1).len() - TEXT.len();
    let text = format!("{}\n", "x".repeat(NOTE_BYTES - over - 1));
    assert!(signer.sign(&text).is_ok());
    assert_eq!(signer.sign(&format!("x{text}")), Err(NoteError::TooLarge));
}

#[test]
fn a_text_that_would_be_read_otherwise_is_not_signed() {
    let key = key();
    let signer = NoteSigner::new("log", &key).unwrap();
    for text in ["no newline", "", "car\rriage\n"] {
        assert!(signer.sign(text).is_err(), "{text:?}");
    }
    assert!(signer.sign("\n").is_ok());
}
