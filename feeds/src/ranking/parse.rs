//! From text to a tree: `+ -` bind least, then `* /`, then the sign, then `^`, which binds to the right.

use keevo_core::{Error, Result};

use super::decay::Decay;
use super::functions::Function;
use super::invalid;
use super::token::{Token, tokens};

/// The most pieces of a tree.
const NODES_MAX: usize = 500;
/// The deepest tree: brackets, calls and signs within each other.
const DEPTH_MAX: usize = 50;

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) root: Node,
}

/// A piece of a tree, and its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Number(f64),
    Text(String),
    /// A field of the activity, or `external` and a variable.
    Field(Vec<String>),
    Negative(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    Over,
    Power,
}

impl Expression {
    /// Compiles `text`; `decays` are functions that it may call by name.
    pub(super) fn parse(text: &str, decays: &[(String, Decay)]) -> Result<Self> {
        let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.trim_end().len(), nodes: 0, decays };
        let root = parser.sum(0)?;
        match parser.tokens.get(parser.next) {
            None => Ok(Self { root }),
            Some((at, _)) => Err(invalid(format!("the score should end here, or go on with an operator (at {at})"))),
        }
    }

    /// The fields that it uses, each once.
    pub(super) fn fields(&self) -> Vec<&[String]> {
        let mut found: Vec<&[String]> = Vec::new();
        let mut rest = vec![&self.root];
        while let Some(node) = rest.pop() {
            match &node.kind {
                Kind::Field(path) if !found.contains(&path.as_slice()) => found.push(path),
                Kind::Negative(inner) => rest.push(inner),
                Kind::Binary(_, left, right) => rest.extend([right.as_ref(), left.as_ref()]),
                Kind::Call(_, arguments) => rest.extend(arguments.iter().rev()),
                Kind::Number(_) | Kind::Text(_) | Kind::Field(_) => {}
            }
        }
        found
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
    nodes: usize,
    decays: &'a [(String, Decay)],
}

impl Parser<'_> {
    fn node(&mut self, at: usize, kind: Kind) -> Result<Node> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(invalid(format!("a score has at most {NODES_MAX} pieces (at {at})")));
        }
        Ok(Node { at, kind })
    }

    /// The sign that comes next, if it is one of `signs`.
    fn sign(&mut self, signs: &str) -> Option<(usize, char)> {
        match self.tokens.get(self.next) {
            Some((at, Token::Sign(sign))) if signs.contains(*sign) => {
                self.next += 1;
                Some((*at, *sign))
            }
            _ => None,
        }
    }

    fn sum(&mut self, depth: usize) -> Result<Node> {
        let mut left = self.product(depth)?;
        while let Some((at, sign)) = self.sign("+-") {
            let right = self.product(depth)?;
            let operator = if sign == '+' { Operator::Plus } else { Operator::Minus };
            left = self.node(at, Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn product(&mut self, depth: usize) -> Result<Node> {
        let mut left = self.signed(depth)?;
        while let Some((at, sign)) = self.sign("*/") {
            let right = self.signed(depth)?;
            let operator = if sign == '*' { Operator::Times } else { Operator::Over };
            left = self.node(at, Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn signed(&mut self, depth: usize) -> Result<Node> {
        if depth > DEPTH_MAX {
            return Err(invalid(format!("a score is at most {DEPTH_MAX} levels deep")));
        }
        match self.sign("+-") {
            Some((at, '-')) => {
                let inner = self.signed(depth + 1)?;
                self.node(at, Kind::Negative(Box::new(inner)))
            }
            Some(_) => self.signed(depth + 1),
            None => self.power(depth),
        }
    }

    fn power(&mut self, depth: usize) -> Result<Node> {
        let base = self.value(depth)?;
        let Some((at, _)) = self.sign("^") else { return Ok(base) };
        let exponent = self.signed(depth + 1)?;
        self.node(at, Kind::Binary(Operator::Power, Box::new(base), Box::new(exponent)))
    }

    fn value(&mut self, depth: usize) -> Result<Node> {
        let Some((at, token)) = self.tokens.get(self.next).cloned() else {
            return Err(invalid(format!("the score ends where a value should stand (at {})", self.end + 1)));
        };
        self.next += 1;
        match token {
            Token::Number(number) => self.node(at, Kind::Number(number)),
            Token::Text(text) => self.node(at, Kind::Text(text)),
            Token::Name(path) => match self.sign("(") {
                Some(_) => self.call(at, &path.join("."), depth),
                None => self.node(at, Kind::Field(path)),
            },
            Token::Sign('(') => {
                let inner = self.sum(depth + 1)?;
                self.close(at).map(|()| inner)
            }
            Token::Sign(sign) => Err(invalid(format!("a value should stand here, not {sign:?} (at {at})"))),
        }
    }

    fn close(&mut self, opened_at: usize) -> Result<()> {
        self.sign(")").map(|_| ()).ok_or_else(|| invalid(format!("the bracket is not closed (at {opened_at})")))
    }

    fn call(&mut self, at: usize, name: &str, depth: usize) -> Result<Node> {
        let own = self.decays.iter().find(|(own, _)| own == name).map(|(_, decay)| Function::Decay(*decay));
        let function = own.or_else(|| Function::named(name)).ok_or_else(|| unknown(name, at))?;
        let mut arguments = Vec::new();
        if self.sign(")").is_none() {
            loop {
                arguments.push(self.sum(depth + 1)?);
                if self.sign(",").is_none() {
                    break;
                }
            }
            self.close(at)?;
        }
        if !function.takes(arguments.len()) {
            let count = arguments.len();
            return Err(invalid(format!("{name} takes {}, not {count} (at {at})", function.arity_text())));
        }
        self.node(at, Kind::Call(function, arguments))
    }
}

fn unknown(name: &str, at: usize) -> Error {
    invalid(format!("there is no function {name} (at {at})"))
}
