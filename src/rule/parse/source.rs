//! The text as tokens: positions that the syntax tree lacks, syntax errors, and names.

use sqlparser::ast::{Ident, SetOperator, Spanned, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{At, Name};
use crate::rule::RuleError;

/// The greatest number of tokens in a rule, without white space and comments. A chain such as `a + a + …` nests one
/// level per operator without counting against the parser's own recursion limit. Dropping or measuring such a tree
/// recurses. The limit prevents a stack overflow.
const MAX_TOKENS: usize = 500;
/// The greatest size of a rule's text in bytes, comments included.
const MAX_BYTES: usize = 64 * 1024;
/// The greatest length of a name in bytes (NAMEDATALEN − 1). Postgres truncates longer names, so two of them could mean
/// one column.
const MAX_NAME_BYTES: usize = 63;

/// Positions that the syntax tree lacks: those of keywords and of the statement.
pub(in crate::rule) struct Source {
    keywords: Vec<Word>,
    start: At,
    second: Option<At>,
    /// The semicolon after the first statement.
    semicolon: Option<At>,
}

struct Word {
    keyword: Keyword,
    at: At,
    nested: bool,
}

impl Source {
    /// Tokenizes and parses a text.
    pub(in crate::rule) fn read(sql: &str) -> Result<(Self, Vec<Statement>), RuleError> {
        let first = At { line: 1, column: 1 };
        if sql.len() > MAX_BYTES {
            return Err(first.error(format!("the text has {} bytes; at most {MAX_BYTES} are supported", sql.len())));
        }
        let dialect = PostgreSqlDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| {
            at_location(error.location).unwrap_or(first).error(format!("not SQL: {}", error.message))
        })?;
        let source = Self::scan(&tokens)?;
        let statements = Parser::new(&dialect)
            .with_tokens_with_locations(tokens)
            .parse_statements()
            .map_err(|error| syntax_error(&source, error))?;
        Ok((source, statements))
    }

    fn scan(tokens: &[TokenWithSpan]) -> Result<Self, RuleError> {
        let (mut keywords, mut start, mut second) = (Vec::new(), None, None);
        let (mut depth, mut ended, mut count) = (0_usize, false, 0_usize);
        let mut semicolon = None;
        for TokenWithSpan { token, span } in tokens {
            let Some(at) = at_location(span.start) else { continue };
            match token {
                Token::Whitespace(_) | Token::EOF => continue,
                Token::SemiColon => {
                    ended = true;
                    semicolon = semicolon.or(Some(at).filter(|_| start.is_some()));
                    continue;
                }
                Token::LParen => depth = depth.saturating_add(1),
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) if word.keyword != Keyword::NoKeyword => {
                    keywords.push(Word { keyword: word.keyword, at, nested: depth > 0 });
                }
                _ => {}
            }
            count = count.saturating_add(1);
            if count > MAX_TOKENS {
                return Err(at.error(format!("the rule is too long: more than {MAX_TOKENS} words and symbols")));
            }
            start = start.or(Some(at));
            if ended {
                second = second.or(Some(at));
            }
        }
        Ok(Self { keywords, start: start.unwrap_or(At { line: 1, column: 1 }), second, semicolon })
    }

    /// The text before the semicolon that ends its first statement.
    pub(in crate::rule) fn without_semicolon(&self, sql: &str) -> String {
        let Some(At { line, column }) = self.semicolon else { return sql.to_owned() };
        let before: usize =
            sql.split_inclusive('\n').zip(1..).take_while(|(_, n)| *n < line).map(|(text, _)| text.len()).sum();
        let rest = sql.get(before..).unwrap_or_default();
        let columns = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let within = rest.char_indices().nth(columns).map_or(rest.len(), |(at, _)| at);
        sql.get(..before + within).unwrap_or(sql).to_owned()
    }

    /// The position of the statement.
    pub(in crate::rule) fn start(&self) -> At {
        self.start
    }

    /// The position of the second statement.
    pub(in crate::rule) fn second_statement(&self) -> At {
        self.second.unwrap_or(self.start)
    }

    /// The position of a node. The statement's position where the parser gives none.
    pub(super) fn at(&self, what: &impl Spanned) -> At {
        self.at_or(what, self.start)
    }

    /// The position of a node, or `otherwise` where the parser gives none.
    pub(super) fn at_or(&self, what: &impl Spanned, otherwise: At) -> At {
        at_location(what.span().start).unwrap_or(otherwise)
    }

    /// The first position of a keyword. A place outside of parentheses is preferred.
    pub(super) fn keyword(&self, keyword: Keyword) -> At {
        let mut places = self.keywords.iter().filter(|word| word.keyword == keyword);
        let outside = places.clone().find(|word| !word.nested);
        outside.or_else(|| places.next()).map_or(self.start, |word| word.at)
    }

    /// Rejects the first clause that is present. An entry is
    /// `(is present, keyword, what it is, what is supported instead)`.
    pub(super) fn refuse_clauses(&self, clauses: &[(bool, Keyword, &str, &str)]) -> Result<(), RuleError> {
        match clauses.iter().find(|(there, ..)| *there) {
            Some((_, keyword, what, instead)) => {
                Err(self.keyword(*keyword).error(format!("{what} is not supported; {instead}")))
            }
            None => Ok(()),
        }
    }
}

/// The keyword of a set operation.
pub(super) fn set_operator(op: SetOperator) -> Keyword {
    match op {
        SetOperator::Union => Keyword::UNION,
        SetOperator::Except => Keyword::EXCEPT,
        SetOperator::Intersect => Keyword::INTERSECT,
        SetOperator::Minus => Keyword::MINUS,
    }
}

/// A name as Postgres takes it: ASCII letters folded to lower case unless quoted.
pub(in crate::rule) fn name(otherwise: At, ident: &Ident) -> Result<Name, RuleError> {
    let Ident { value, quote_style, span: _ } = ident;
    let at = place(ident).unwrap_or(otherwise);
    let text = match quote_style {
        None => value.to_ascii_lowercase(),
        Some('"') => value.clone(),
        Some(_) => return Err(at.error("names are quoted with double quotes: \"name\"")),
    };
    if text.is_empty() || text.contains('\0') {
        return Err(at.error("a name is empty or has a zero byte in it"));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(at.error(format!("a name is longer than the {MAX_NAME_BYTES} bytes that Postgres keeps of it")));
    }
    Ok(Name { text, at })
}

/// The position of a name, if the parser gives one.
pub(super) fn place(ident: &Ident) -> Option<At> {
    at_location(ident.span.start)
}

/// Converts a syntax error. The parser writes the position into the message only: `… at Line: 1, Column: 8`.
fn syntax_error(source: &Source, error: ParserError) -> RuleError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => return source.start.error("nested too deeply"),
    };
    let place = message.rsplit_once(" at Line: ").and_then(|(problem, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((problem, At { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    match place {
        Some((problem, at)) if at.line > 0 => at.error(format!("not SQL: {problem}")),
        Some((problem, _)) => source.start.error(format!("not SQL: {problem}")),
        None => source.start.error(format!("not SQL: {message}")),
    }
}

/// Converts a position. The parser uses line 0 where it has none.
fn at_location(location: Location) -> Option<At> {
    (location.line > 0).then_some(At { line: location.line, column: location.column })
}
