//! Templates such as `{{.SyncData.snapshot_url}}`, rendered by a restricted minijinja.
//!
//! A recipe may be untrusted, so there are no macros, assignments or includes, and steps and output are limited. A
//! name that does not exist is an error, even in a branch that is not taken.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, value};
use serde_json::Value;

use super::diagnostics::did_you_mean;
use super::schema_words::short;

/// The maximum of minijinja steps for one template.
const FUEL: u64 = 50_000;
/// The maximum size of a template and of its output.
const BYTES_MAX: usize = 256 << 10;
/// The statements that a template may use.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// A mistake in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateFault {
    /// The faulty part as written.
    pub(super) needle: Option<String>,
    pub(super) message: String,
    pub(super) mend: String,
}

impl TemplateFault {
    fn new(message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            needle: None,
            message: message.into(),
            mend: mend.into(),
        }
    }
}

/// Renders templates with the values of one node.
pub(super) struct Templates {
    environment: Environment<'static>,
    names: Value,
}

impl Templates {
    /// Templates with `names`, a mapping of mappings.
    pub(super) fn new(names: Value) -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(32);
        // Building fails only for contradictory delimiters, and these are the defaults.
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.add_filter("default", minijinja::filters::default);
        environment.add_filter("lower", minijinja::filters::lower);
        environment.add_filter("upper", minijinja::filters::upper);
        environment.add_filter("trim", minijinja::filters::trim);
        Self { environment, names }
    }

    /// Renders the text.
    pub(super) fn render(&self, text: &str) -> Result<String, TemplateFault> {
        if !is_template(text) {
            return Ok(text.to_owned());
        }
        if text.len() > BYTES_MAX {
            return Err(TemplateFault::new(
                "the template exceeds 256 KiB",
                "split the template",
            ));
        }
        let plain = without_leading_dots(text)?;
        let template = self
            .environment
            .template_from_str(&plain)
            .map_err(|e| bad_template(&e))?;
        let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
        names.sort();
        names.iter().try_for_each(|name| self.check_name(name))?;
        let mut out = Bounded(Vec::new());
        let context = minijinja::Value::from(value::Serde(&self.names));
        template
            .render_captured_to(context, &mut out)
            .map_err(|e| bad_template(&e))?;
        // minijinja writes only whole `str`s.
        Ok(String::from_utf8_lossy(&out.0).into_owned())
    }

    /// Whether a dotted name exists, part by part.
    fn check_name(&self, dotted: &str) -> Result<(), TemplateFault> {
        let mut scope = &self.names;
        let mut walked = String::new();
        for part in dotted.split('.') {
            let Some(names) = scope.as_object() else {
                return Ok(());
            };
            let Some(inner) = names.get(part) else {
                let known: Vec<String> =
                    names.keys().map(|key| format!("{walked}.{key}")).collect();
                let written = format!("{walked}.{part}");
                let mend = match known.as_slice() {
                    [] => format!("declare the name first: {}", declared_in(&walked)),
                    known => did_you_mean(&written, "name", known.iter().map(String::as_str)),
                };
                return Err(TemplateFault {
                    mend,
                    message: format!("`{}` does not exist", short(&written)),
                    needle: Some(format!(".{dotted}")),
                });
            };
            walked = format!("{walked}.{part}");
            scope = inner;
        }
        Ok(())
    }
}

/// Where names below a first part are declared.
fn declared_in(scope: &str) -> &'static str {
    match scope {
        ".Ports" => "`ports` of runtime.yaml",
        ".Inputs" => "`inputs` of profile.yaml",
        ".SyncData" => "`sync_data` of the node type in profile.yaml",
        ".Binaries" => "`binaries` of profile.yaml",
        _ => "no name can be declared here",
    }
}

/// Whether the text contains a placeholder.
pub(super) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"]
        .iter()
        .any(|opening| text.contains(opening))
}

fn bad_template(error: &minijinja::Error) -> TemplateFault {
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().filter(|line| *line > 1);
    let at = line
        .map(|line| format!(" (line {line} of the template)"))
        .unwrap_or_default();
    TemplateFault::new(
        format!("invalid template: {}{at}", short(&detail)),
        "write values as `{{.Ports.rpc}}` and conditions as `{% if .SyncData.url %}…{% endif %}`",
    )
}

/// A writer that fails beyond the limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BYTES_MAX {
            return Err(io::Error::other("the output exceeds 256 KiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns `{{ .Ports.rpc }}` into `{{ Ports.rpc }}`, and rejects statements that templates may not use.
fn without_leading_dots(text: &str) -> Result<String, TemplateFault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let is_statement = rest[start..].starts_with("{%");
        let closing = if is_statement { "%}" } else { "}}" };
        let length = inside_length(&rest[start + 2..], closing);
        let inside = &rest[start + 2..start + 2 + length];
        if is_statement {
            check_statement(inside)?;
        }
        out.push_str(&rest[..start + 2]);
        push_without_dots(&mut out, inside);
        rest = &rest[start + 2 + length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The length up to the closing mark, which does not count within quotes.
fn inside_length(text: &str, closing: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(closing) => return at,
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {}
        }
    }
    text.len()
}

fn check_statement(inside: &str) -> Result<(), TemplateFault> {
    let words = inside.trim_start_matches(['-', '+']).trim_start();
    let word: String = words
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    if STATEMENTS.contains(&word.as_str()) {
        return Ok(());
    }
    Err(TemplateFault {
        needle: Some(format!("{{%{inside}")),
        message: format!("`{}` is not a supported template statement", short(&word)),
        mend: format!("use only `{}`", STATEMENTS.join("`, `")),
    })
}

/// Copies code without the dot that starts each name.
fn push_without_dots(out: &mut String, code: &str) {
    let mut quote = None;
    let mut before = ' ';
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(_) | None => {}
        }
        let continues = before.is_alphanumeric() || matches!(before, '_' | ')' | ']' | '"' | '\'');
        let begins_name = chars
            .peek()
            .is_some_and(|next| next.is_alphabetic() || *next == '_');
        if quote.is_some() || c != '.' || continues || !begins_name {
            out.push(c);
        }
        before = c;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Result<String, TemplateFault> {
        let names = json!({ "Ports": { "rpc": 8545 }, "SyncData": { "url": "", "name": "x" } });
        Templates::new(names).render(text)
    }

    #[test]
    fn the_go_form_is_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{{.Ports.rpc}}", "8545"),
            ("--port={{ .Ports.rpc }}!", "--port=8545!"),
            ("{% if .SyncData.url %}a{% else %}b{% endif %}", "b"),
            (
                "{{ .Ports.rpc == 8545 and .SyncData.name == '.x' }}",
                "False",
            ),
            ("{{.SyncData.name|upper}}\n", "X\n"),
            ("{{ '}}.Ports' }}", "}}.Ports"),
        ] {
            assert_eq!(
                render(text).as_deref().map(str::to_lowercase),
                Ok(expected.to_lowercase()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_error_in_any_branch() {
        let fault = render("{% if .SyncData.url %}{{.Ports.rcp}}{% endif %}").unwrap_err();
        assert_eq!(fault.message, "`.Ports.rcp` does not exist");
        assert_eq!(fault.mend, "did you mean `.Ports.rpc`?");
        assert_eq!(fault.needle.as_deref(), Some(".Ports.rcp"));
    }

    #[test]
    fn power_is_refused_and_work_is_bounded() {
        for text in [
            "{% set a = 'x' %}",
            "{% macro a() %}{% endmacro %}",
            "{% include 'x' %}",
            "{{ range(100000) }}",
            "{{ 'x' * 400000 }}",
            "{{ .Ports.rpc",
            "{{ 1 / 0 }}",
        ] {
            assert!(render(text).is_err(), "{text}");
        }
        let digits = "'0123456789'";
        let nested = format!(
            "{{% for a in {digits} %}}{{% for b in {digits} %}}{{% for c in {digits} %}}{{% for d in {digits} %}}{{% for e in {digits} %}}x{{% endfor %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
        );
        assert!(render(&nested).is_err());
    }
}
