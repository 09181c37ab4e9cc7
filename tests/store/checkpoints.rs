//! Which checkpoints are kept: the newest, for lines that are still on their way, and those that enough witnesses cosigned.

use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;

use super::fixture::*;

/// Checkpoints that are kept for their age alone.
const NEWEST: u64 = 64;

async fn keep(scene: &Scene, sizes: impl Iterator<Item = u64>) {
    for size in sizes {
        let checkpoint = StoredCheckpoint {
            size,
            origin: "log.example/1".into(),
            root: Digest::of(&size.to_be_bytes()),
            note: format!("the note of {size}"),
            at: at(100),
            cosignatures: Vec::new(),
        };
        scene.store.keep_checkpoint(checkpoint).await.unwrap();
    }
}

async fn cosign(scene: &Scene, size: u64, witnesses: &[&str]) {
    for witness in witnesses {
        let line = format!("{witness} on {size}");
        let cosigned = Cosigned { witness: (*witness).to_owned(), line, at: at(100) };
        scene.store.keep_cosignature(size, cosigned).await.unwrap();
    }
}

/// Names of the witnesses of a checkpoint; `None` when it is not kept.
async fn witnesses_of(scene: &Scene, size: u64) -> Option<Vec<String>> {
    let kept = scene.store.checkpoints().await.unwrap();
    let found = kept.into_iter().find(|checkpoint| checkpoint.size == size)?;
    Some(found.cosignatures.into_iter().map(|cosigned| cosigned.witness).collect())
}

#[tokio::test]
async fn a_line_finds_its_checkpoint_among_the_newest_sixty_four_and_none_beyond_them() {
    for scene in scenes().await {
        keep(&scene, 1..=NEWEST + 1).await;
        cosign(&scene, 1, &["a"]).await;
        cosign(&scene, 2, &["a"]).await;
        assert_eq!(witnesses_of(&scene, 1).await, None, "{}", scene.name);
        assert_eq!(witnesses_of(&scene, 2).await, Some(vec!["a".into()]), "{}", scene.name);
    }
}

#[tokio::test]
async fn the_checkpoint_of_the_most_witnesses_survives_any_number_of_later_ones_with_fewer() {
    for scene in scenes().await {
        keep(&scene, 1..=10).await;
        cosign(&scene, 9, &["a"]).await;
        cosign(&scene, 10, &["a", "b"]).await;
        for size in 11..=10 + 2 * NEWEST {
            keep(&scene, size..=size).await;
            cosign(&scene, size, &["a"]).await;
        }
        assert_eq!(witnesses_of(&scene, 9).await, None, "{}: there is a newer one with as many", scene.name);
        let both = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(witnesses_of(&scene, 10).await, both, "{}", scene.name);
        // A newer one with as many takes its place.
        let newer = 10 + 2 * NEWEST;
        cosign(&scene, newer, &["b"]).await;
        for size in newer + 1..=newer + 2 * NEWEST {
            keep(&scene, size..=size).await;
            cosign(&scene, size, &["a"]).await;
        }
        assert_eq!(witnesses_of(&scene, 10).await, None, "{}", scene.name);
        assert_eq!(witnesses_of(&scene, newer).await, both, "{}", scene.name);
    }
}
