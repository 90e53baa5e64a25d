//! Reads the trait into what the expansion needs.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemTrait, Lit, LitStr, Meta,
    Pat, PathArguments, Result, ReturnType, Token, TraitItem, TraitItemFn, Type,
};

/// Arguments of the attribute.
pub struct Arguments {
    pub client: LitStr,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key: Ident = input.parse()?;
        if key != "client" {
            return Err(Error::new(key.span(), "expected `client = \"…\"`"));
        }
        input.parse::<Token![=]>()?;
        let client = input.parse()?;
        let _: Option<Token![,]> = input.parse()?;
        Ok(Self { client })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unary,
    Streaming,
    ByteStream,
}

pub struct Argument {
    pub name: Ident,
    pub ty: Type,
    pub default: Option<Expr>,
    pub rest: bool,
}

pub struct Method {
    /// The item as written, without our own attributes.
    pub item: TraitItemFn,
    pub wire_name: LitStr,
    pub kind: Kind,
    pub documentation: String,
    pub arguments: Vec<Argument>,
    /// The `T` of `Result<T>`.
    pub result: Type,
}

pub struct Interface {
    pub client: LitStr,
    /// The trait without its methods.
    pub item: ItemTrait,
    pub documentation: String,
    pub methods: Vec<Method>,
}

// === impl Interface ===

impl Interface {
    pub fn new(arguments: Arguments, mut item: ItemTrait) -> Result<Self> {
        let documentation = documentation(&item.attrs);
        let mut methods: Vec<Method> = Vec::new();
        for member in std::mem::take(&mut item.items) {
            let TraitItem::Fn(function) = member else {
                return Err(Error::new(member.span(), "an interface has only methods"));
            };
            let method = Method::new(function)?;
            let twin = |other: &&Method| {
                other.wire_name.value() == method.wire_name.value() && other.kind == method.kind
            };
            if let Some(other) = methods.iter().find(twin) {
                let mut error = Error::new(
                    method.item.sig.ident.span(),
                    "two methods of one kind share this wire name",
                );
                error.combine(Error::new(other.item.sig.ident.span(), "the other one"));
                return Err(error);
            }
            methods.push(method);
        }
        Ok(Self {
            client: arguments.client,
            item,
            documentation,
            methods,
        })
    }
}

// === impl Method ===

impl Method {
    fn new(mut item: TraitItemFn) -> Result<Self> {
        let documentation = documentation(&item.attrs);
        let stream = take(&mut item.attrs, "stream").is_some();
        let wire_name = match take(&mut item.attrs, "method") {
            Some(attribute) => wire_name(&attribute)?,
            None => LitStr::new(&item.sig.ident.to_string(), item.sig.ident.span()),
        };
        let ReturnType::Type(_, returned) = &item.sig.output else {
            return Err(Error::new(item.sig.span(), "a method returns `Result<…>`"));
        };
        let (kind, result) = if item.sig.asyncness.is_some() {
            let kind = if stream {
                Kind::ByteStream
            } else {
                Kind::Unary
            };
            (kind, inner_of(returned, "Result"))
        } else {
            let item = stream_item(returned);
            (
                Kind::Streaming,
                item.as_ref().and_then(|item| inner_of(item, "Result")),
            )
        };
        let result = result.ok_or_else(|| {
            Error::new(
                returned.span(),
                "expected `async fn … -> Result<T>` or `fn … -> impl Stream<Item = Result<T>> + Send`",
            )
        })?;
        let arguments = arguments(&mut item)?;
        if kind == Kind::ByteStream && !arguments.is_empty() {
            return Err(Error::new(
                item.sig.span(),
                "a byte stream method has no arguments: the wire carries only its name",
            ));
        }
        Ok(Self {
            item,
            wire_name,
            kind,
            documentation,
            arguments,
            result,
        })
    }
}

fn arguments(item: &mut TraitItemFn) -> Result<Vec<Argument>> {
    let mut inputs = item.sig.inputs.iter_mut();
    match inputs.next() {
        Some(FnArg::Receiver(receiver))
            if receiver.reference.is_some() && receiver.mutability.is_none() => {}
        _ => return Err(Error::new(item.sig.span(), "a method takes `&self`")),
    }
    let mut arguments: Vec<Argument> = Vec::new();
    for input in inputs {
        let FnArg::Typed(typed) = input else {
            return Err(Error::new(input.span(), "unexpected receiver"));
        };
        let Pat::Ident(name) = &*typed.pat else {
            return Err(Error::new(typed.pat.span(), "an argument needs a name"));
        };
        let name = name.ident.clone();
        if arguments.last().is_some_and(|last| last.rest) {
            return Err(Error::new(
                name.span(),
                "nothing can follow a `#[rest]` argument",
            ));
        }
        let default = take(&mut typed.attrs, "default")
            .map(|attribute| attribute.parse_args::<Expr>())
            .transpose()?;
        let rest = take(&mut typed.attrs, "rest").is_some();
        arguments.push(Argument {
            name,
            ty: (*typed.ty).clone(),
            default,
            rest,
        });
    }
    Ok(arguments)
}

fn take(attributes: &mut Vec<Attribute>, name: &str) -> Option<Attribute> {
    let index = attributes
        .iter()
        .position(|attribute| attribute.path().is_ident(name))?;
    Some(attributes.remove(index))
}

fn wire_name(attribute: &Attribute) -> Result<LitStr> {
    let pairs = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
    for pair in &pairs {
        if let Meta::NameValue(pair) = pair
            && pair.path.is_ident("name")
            && let Expr::Lit(ExprLit {
                lit: Lit::Str(name),
                ..
            }) = &pair.value
        {
            return Ok(name.clone());
        }
    }
    Err(Error::new(attribute.span(), "expected `name = \"…\"`"))
}

/// The first paragraph and everything after it, as in the doc comment.
fn documentation(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) = &pair.value
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join("\n").trim().to_owned()
}

/// `T` of `Wrapper<T>`.
pub fn inner_of(ty: &Type, wrapper: &str) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != wrapper {
        return None;
    }
    let PathArguments::AngleBracketed(generic) = &last.arguments else {
        return None;
    };
    generic.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    })
}

/// `X` of `impl Stream<Item = X> + …`.
fn stream_item(ty: &Type) -> Option<Type> {
    let Type::ImplTrait(implementation) = ty else {
        return None;
    };
    implementation.bounds.iter().find_map(|bound| {
        let syn::TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let last = bound.path.segments.last()?;
        let PathArguments::AngleBracketed(generic) = &last.arguments else {
            return None;
        };
        generic.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(item.ty.clone()),
            _ => None,
        })
    })
}
