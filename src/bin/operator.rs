//! The operator: reconciles `ReplicatedStore` objects.

fn main() {
    let text = serde_saphyr::to_string(&replicated_store::api::crd()).unwrap_or_default();
    print!("{text}");
}
