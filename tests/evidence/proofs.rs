//! Inclusion proofs of many indexes in trees of many sizes: both verifiers agree.

use serde_json::json;

use super::packed::packed;

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_follow_the_proofs_of_every_shape_of_tree() {
    let it = packed().await;
    let count = u64::try_from(it.events().len()).unwrap();
    for size in [count, 32, 33, 100, 256, 257] {
        // Packed at the front, at the end, and spread over it.
        let shapes: [Vec<u64>; 3] = [
            (0..count).collect(),
            (size - count..size).collect(),
            (0..count).map(|n| n * (size - 1) / (count - 1)).collect(),
        ];
        for places in shapes {
            it.moved(&places, size).holds();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_refuse_each_hash_of_a_path_that_is_another() {
    let it = packed().await;
    let count = u64::try_from(it.events().len()).unwrap();
    let places: Vec<u64> = (0..count).map(|n| n * 99 / (count - 1)).collect();
    let it = it.moved(&places, 100);
    for nth in [0, 5, usize::try_from(count).unwrap() - 1] {
        let length = it.pack["entries"][nth]["path"].as_array().unwrap().len();
        for at in 0..length {
            it.with(|pack| {
                pack["entries"][nth]["path"][at] = json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
            })
            .refused_only("inclusion");
        }
        it.with(|pack| {
            let path = pack["entries"][nth]["path"].as_array_mut().unwrap();
            path.push(path[0].clone());
        })
        .refused_only("inclusion");
    }
}
