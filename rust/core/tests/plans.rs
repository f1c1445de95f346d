//! A plan with a field that the engine does not know is refused: a misspelt limit would be none.

use datajoint_migrate_core::mysql::Server;
use datajoint_migrate_core::mysql::binlog::{Cascade, Position, Wanted, WantedColumn};
use datajoint_migrate_core::stores::store::StoreSpec;
use datajoint_migrate_core::verbs::{
    backup, batches, changed, check, compare, copy, files, heads, look, lost, orphans, pointers, promote,
    proofs, restore, scan, sync,
};
use serde::de::DeserializeOwned;

fn said<T: DeserializeOwned>(plan: &str) -> String {
    match serde_json::from_str::<T>(plan) {
        Ok(_) => panic!("{plan} was taken"),
        Err(error) => error.to_string(),
    }
}

/// That the plan is refused at each of these fields, whose values are plans too, and in itself.
fn refused<T: DeserializeOwned>(parts: &[&str]) {
    let unknown = r#"{"surprise": 1}"#;
    let whole = parts.iter().map(|part| part.replace('?', unknown));
    for plan in whole.map(|part| format!("{{{part}}}")).chain([unknown.to_owned()]) {
        let said = said::<T>(&plan);
        assert!(said.contains("unknown field `surprise`"), "{}: {plan}: {said}", std::any::type_name::<T>());
    }
}

#[test]
fn no_plan_takes_a_field_that_it_does_not_know() {
    let ends = [r#""source": ?"#, r#""destination": ?"#, r#""throttle": ?"#];
    refused::<backup::BackupPlan>(&[
        ends[0],
        ends[2],
        r#""tables": [?]"#,
        r#""tables": [{"columns": [?]}]"#,
        r#""stores": [?]"#,
        r#""stores": [{"reads": [?]}]"#,
    ]);
    refused::<restore::RestorePlan>(&[ends[1]]);
    refused::<restore::objects::ObjectsPlan>(&[]);
    refused::<check::CheckPlan>(&[]);
    refused::<check::ManifestPlan>(&[]);
    refused::<copy::CopyPlan>(&[
        ends[0],
        ends[1],
        ends[2],
        r#""tables": [?]"#,
        r#""tables": [{"columns": [?]}]"#,
        r#""tables": [{"columns": [{"object": ?}]}]"#,
        r#""tables": [{"columns": [{"pointer": ?}]}]"#,
        r#""compare": ?"#,
    ]);
    refused::<compare::ComparedTable>(&[r#""columns": [?]"#]);
    refused::<sync::SyncPlan>(&[ends[0], ends[1], ends[2], r#""tables": [?]"#]);
    refused::<sync::written::WrittenPlan>(&[]);
    refused::<scan::ScanPlan>(&[ends[0]]);
    refused::<promote::PromotePlan>(&[]);
    refused::<promote::PartPlan>(&[]);
    refused::<pointers::PointersPlan>(&[]);
    refused::<pointers::FillPlan>(&[]);
    refused::<pointers::PartPlan>(&[]);
    refused::<files::FilesPlan>(&[]);
    refused::<files::ReadBy>(&[]);
    refused::<batches::BatchesPlan>(&[]);
    refused::<batches::Tracked>(&[]);
    refused::<batches::CopyPlan>(&[]);
    refused::<batches::Part>(&[]);
    refused::<batches::ForgetPlan>(&[]);
    refused::<changed::PositionPlan>(&[r#""server": ?"#]);
    refused::<changed::ChangedPlan>(&[r#""server": ?"#]);
    refused::<proofs::ProofsPlan>(&[]);
    refused::<orphans::OrphansPlan>(&[]);
    refused::<heads::HeadsPlan>(&[]);
    refused::<look::LookPlan>(&[]);
    refused::<look::Sought>(&[]);
    refused::<look::ProbePlan>(&[]);
    refused::<lost::LostPlan>(&[]);
    refused::<Server>(&[]);
    refused::<Wanted>(&[r#""columns": [?]"#]);
    refused::<WantedColumn>(&[]);
    refused::<Cascade>(&[]);
    refused::<Position>(&[]);
}

#[test]
fn a_store_is_refused_for_the_field_that_it_does_not_know() {
    let stores = [
        r#"{"protocol": "file", "name": "raw", "location": "/x", "surprise": 1}"#,
        r#"{"protocol": "bucket", "name": "raw", "surprise": 1}"#,
        r#"{"protocol": "bucket", "service": {"kind": "s3", "endpoint": "http://x", "surprise": 1}}"#,
        r#"{"protocol": "bucket", "service": {"kind": "gcs", "surprise": 1}}"#,
        r#"{"protocol": "bucket", "service": {"kind": "azure", "account": "a", "surprise": 1}}"#,
    ];
    for store in stores {
        assert!(said::<StoreSpec>(store).contains("`surprise`"), "{store}");
        let place = said::<check::ManifestPlan>(&format!("{{\"archive\": {store}}}"));
        assert!(place.contains("`surprise`"), "{place}");
    }
    assert!(said::<check::ManifestPlan>(r#"{"archive": 7}"#).contains("the path of a folder, or a store"));
}

#[test]
fn a_comparison_takes_its_own_fields_and_no_others() {
    let server = r#"{"host": "h", "user": "u"}"#;
    let plan = |more: &str| {
        format!(r#"{{"source": {server}, "destination": {server}, "tables": [], "tolerance": 0.5{more}}}"#)
    };
    let known: compare::ComparePlan = serde_json::from_str(&plan("")).expect("a plan");
    assert!((known.comparison.tolerance - 0.5).abs() < f64::EPSILON);
    assert!(said::<compare::ComparePlan>(&plan(r#", "tolerence": 0.1"#)).contains("tolerence"));
    let limited = plan(r#", "throttle": {"max_bytes": 1}"#);
    assert!(said::<compare::ComparePlan>(&limited).contains("unknown field `max_bytes`"));
}
