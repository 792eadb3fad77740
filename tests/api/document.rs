//! The document of the API is the one that is checked in.

use std::path::Path;

#[test]
fn the_document_that_is_checked_in_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let served = serde_json::to_string_pretty(&host_server::api::openapi()).unwrap() + "\n";
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    if served != checked_in {
        std::fs::write(&path, &served).unwrap();
        panic!("docs/openapi.json was old and is rewritten now; look at the change and commit it");
    }
}

#[test]
fn each_operation_has_its_own_name_and_answers_with_problems() {
    let document = serde_json::to_value(host_server::api::openapi()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            let problem = operation
                .pointer("/responses/default/content/application~1problem+json/schema/$ref");
            assert_eq!(
                problem.unwrap(),
                "#/components/schemas/Problem",
                "{method} {path}"
            );
        }
    }
    assert!(
        document
            .pointer("/components/schemas/Problem/properties/errors")
            .is_some()
    );
    assert!(names.len() > 20, "{names:?}");
}
