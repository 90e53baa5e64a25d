//! Writes the trait, its descriptor, its dispatch table and its client.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, ReturnType, Type};

use crate::parse::{Argument, Interface, Kind, Method, inner_of};

pub fn expand(interface: &Interface) -> TokenStream {
    let the_trait = the_trait(interface);
    let descriptor = descriptor(interface);
    let dispatch = dispatch(interface);
    let client = client(interface);
    quote! {
        #the_trait
        #descriptor
        #dispatch
        #client
    }
}

/// `StorageMux` to `storage_mux`.
fn snake(name: &Ident) -> String {
    let mut snake = String::new();
    for (index, letter) in name.to_string().chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn descriptor_name(interface: &Interface) -> Ident {
    format_ident!("{}", snake(&interface.item.ident).to_uppercase())
}

/// The trait with its futures spelled out, so that they are `Send` for everybody.
fn the_trait(interface: &Interface) -> TokenStream {
    let mut item = interface.item.clone();
    for method in &interface.methods {
        let mut function = method.item.clone();
        if function.sig.asyncness.take().is_some() {
            let ReturnType::Type(_, returned) = &function.sig.output else {
                continue;
            };
            let output = quote! {
                -> impl ::core::future::Future<Output = #returned> + Send
            };
            function.sig.output = syn::parse_quote!(#output);
            if let Some(body) = &function.default {
                function.default = Some(syn::parse_quote!({ async move #body }));
                function.semi_token = None;
            }
        }
        item.items.push(syn::TraitItem::Fn(function));
    }
    quote!(#item)
}

fn descriptor(interface: &Interface) -> TokenStream {
    let name = interface.item.ident.to_string();
    let constant = descriptor_name(interface);
    let visibility = &interface.item.vis;
    let client = &interface.client;
    let documentation = &interface.documentation;
    let about = format!("Descriptor of the interface [`{name}`].");
    let methods = interface.methods.iter().map(|method| {
        let wire_name = &method.wire_name;
        let kind = match method.kind {
            Kind::Unary => quote!(Unary),
            Kind::Streaming => quote!(Streaming),
            Kind::ByteStream => quote!(ByteStream),
        };
        let documentation = &method.documentation;
        let arguments = method.arguments.iter().map(argument_descriptor);
        quote! {
            ::jmp_driver::interface::MethodDescriptor {
                name: #wire_name,
                kind: ::jmp_driver::interface::MethodKind::#kind,
                documentation: #documentation,
                arguments: &[#(#arguments),*],
            }
        }
    });
    quote! {
        #[doc = #about]
        #visibility static #constant: ::jmp_driver::interface::InterfaceDescriptor =
            ::jmp_driver::interface::InterfaceDescriptor {
                name: #name,
                client: #client,
                documentation: #documentation,
                methods: &[#(#methods),*],
            };
    }
}

fn argument_descriptor(argument: &Argument) -> TokenStream {
    let name = argument.name.to_string();
    let optional_inner = inner_of(&argument.ty, "Option");
    let listed = if argument.rest {
        inner_of(&argument.ty, "Vec")
    } else {
        None
    };
    let ty = optional_inner.as_ref().or(listed.as_ref());
    let type_name = word_for(ty.unwrap_or(&argument.ty));
    let optional = argument.default.is_some() || optional_inner.is_some() || argument.rest;
    let variadic = argument.rest;
    quote! {
        ::jmp_driver::interface::ArgumentDescriptor {
            name: #name,
            type_name: #type_name,
            optional: #optional,
            variadic: #variadic,
        }
    }
}

/// What people call a type.
fn word_for(ty: &Type) -> String {
    let Type::Path(path) = ty else {
        return quote!(#ty).to_string();
    };
    let Some(last) = path.path.segments.last() else {
        return quote!(#ty).to_string();
    };
    let name = last.ident.to_string();
    match name.as_str() {
        "String" | "PathBuf" => "string",
        "bool" => "boolean",
        "f32" | "f64" => "number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
            "integer"
        }
        "Vec" => "list",
        "HashMap" | "BTreeMap" => "mapping",
        "Resource" => "resource",
        "Uuid" => "uuid",
        _ => return name,
    }
    .to_owned()
}

fn dispatch(interface: &Interface) -> TokenStream {
    let the_trait = &interface.item.ident;
    let visibility = &interface.item.vis;
    let constant = descriptor_name(interface);
    let function = format_ident!("{}_interface", snake(the_trait));
    let about =
        format!("The interface [`{the_trait}`] as implemented by `T`, for `Driver::interfaces`.");
    let handlers = interface
        .methods
        .iter()
        .map(|method| handler(the_trait, method));
    quote! {
        #[doc = #about]
        #visibility fn #function<T: #the_trait>() -> ::jmp_driver::interface::Interface<T> {
            ::jmp_driver::interface::Interface {
                descriptor: &#constant,
                handlers: ::std::vec![#(#handlers),*],
            }
        }
    }
}

fn handler(the_trait: &Ident, method: &Method) -> TokenStream {
    let function = &method.item.sig.ident;
    let names: Vec<_> = method
        .arguments
        .iter()
        .map(|argument| &argument.name)
        .collect();
    let decode = method.arguments.iter().map(decode_argument);
    let decode = quote! {
        let mut decoder = ::jmp_driver::generated::Arguments::new(arguments, &context);
        #(#decode)*
        decoder.finish()?;
    };
    let call = quote!(<T as #the_trait>::#function(&driver, #(#names),*));
    match method.kind {
        Kind::Unary => quote! {
            ::jmp_driver::interface::Handler::Unary(|driver, context, arguments| {
                ::std::boxed::Box::pin(async move {
                    #decode
                    let result = #call.await?;
                    ::jmp_driver::generated::encode(&result)
                })
            })
        },
        Kind::Streaming => quote! {
            ::jmp_driver::interface::Handler::Streaming(|driver, context, arguments| {
                ::std::boxed::Box::pin(::jmp_driver::generated::try_stream! {
                    #decode
                    let items = #call;
                    let mut items = ::std::pin::pin!(items);
                    while let Some(item) =
                        ::jmp_driver::generated::StreamExt::next(&mut items).await
                    {
                        yield ::jmp_driver::generated::encode(&item?)?;
                    }
                })
            })
        },
        Kind::ByteStream => quote! {
            ::jmp_driver::interface::Handler::ByteStream(|driver, _context| {
                ::std::boxed::Box::pin(async move { #call.await })
            })
        },
    }
}

fn decode_argument(argument: &Argument) -> TokenStream {
    let name = &argument.name;
    let ty = &argument.ty;
    let text = name.to_string();
    if argument.rest {
        quote!(let #name: #ty = decoder.rest(#text)?;)
    } else if let Some(default) = &argument.default {
        quote!(let #name: #ty = decoder.optional(#text, || #default)?;)
    } else if let Some(inner) = inner_of(ty, "Option") {
        if word_for(&inner) == "resource" {
            return quote!(let #name: #ty = decoder.optional_resource(#text)?;);
        }
        quote!(let #name: #ty = decoder.optional(#text, || None)?;)
    } else {
        quote!(let #name: #ty = decoder.required(#text)?;)
    }
}

fn client(interface: &Interface) -> TokenStream {
    let the_trait = &interface.item.ident;
    let visibility = &interface.item.vis;
    let name = format_ident!("{the_trait}Client");
    let about = format!("Typed client of drivers with the interface [`{the_trait}`].");
    let methods = interface.methods.iter().map(client_method);
    quote! {
        #[doc = #about]
        #[derive(Debug, Clone)]
        #visibility struct #name {
            handle: ::jmp_driver::DriverHandle,
        }

        impl #name {
            /// Wraps a driver.
            pub fn new(handle: ::jmp_driver::DriverHandle) -> Self {
                Self { handle }
            }

            /// The driver without types.
            pub fn handle(&self) -> &::jmp_driver::DriverHandle {
                &self.handle
            }

            #(#methods)*
        }

        impl ::core::convert::From<::jmp_driver::DriverHandle> for #name {
            fn from(handle: ::jmp_driver::DriverHandle) -> Self {
                Self::new(handle)
            }
        }
    }
}

fn client_method(method: &Method) -> TokenStream {
    let function = &method.item.sig.ident;
    let wire_name = &method.wire_name;
    let documentation = format!(
        "{}\n\n# Errors\n\nThose of the driver, and of the way to it.",
        method.documentation
    );
    let result = &method.result;
    let names: Vec<_> = method
        .arguments
        .iter()
        .map(|argument| &argument.name)
        .collect();
    let types = method
        .arguments
        .iter()
        .map(|argument| client_type(&argument.ty));
    let parameters = quote!(#(#names: #types),*);
    let encode = method.arguments.iter().map(|argument| {
        let name = &argument.name;
        if argument.rest {
            quote! {
                for item in &#name {
                    arguments.push(::jmp_driver::generated::encode(item)?);
                }
            }
        } else {
            quote!(arguments.push(::jmp_driver::generated::encode(&#name)?);)
        }
    });
    let arguments = if method.arguments.is_empty() {
        quote!(let arguments = ::std::vec::Vec::new();)
    } else {
        quote! {
            let mut arguments: ::std::vec::Vec<::jmp_driver::generated::Value> =
                ::std::vec::Vec::new();
            #(#encode)*
        }
    };
    match method.kind {
        Kind::Unary => quote! {
            #[doc = #documentation]
            pub async fn #function(&self, #parameters) -> ::jmp_driver::Result<#result> {
                #arguments
                let result = self.handle.call_raw(#wire_name, arguments).await?;
                ::jmp_driver::generated::decode(result)
            }
        },
        Kind::Streaming => quote! {
            #[doc = #documentation]
            pub async fn #function(&self, #parameters) -> ::jmp_driver::Result<
                impl ::jmp_driver::generated::Stream<Item = ::jmp_driver::Result<#result>>
                    + Send + Unpin + 'static + use<>
            > {
                #arguments
                let items = self.handle.streaming_call(#wire_name, arguments).await?;
                Ok(::jmp_driver::generated::StreamExt::map(items, |item| {
                    item.and_then(::jmp_driver::generated::decode)
                }))
            }
        },
        Kind::ByteStream => quote! {
            #[doc = #documentation]
            pub async fn #function(&self) -> ::jmp_driver::Result<::jmp_driver::ByteStream> {
                self.handle.open_stream(#wire_name).await
            }
        },
    }
}

/// What a client passes: a handle where the driver sees a resource.
fn client_type(ty: &Type) -> TokenStream {
    let is_resource = |ty: &Type| word_for(ty) == "resource";
    if is_resource(ty) {
        return quote!(::jmp_driver::ResourceHandle);
    }
    match inner_of(ty, "Option") {
        Some(inner) if is_resource(&inner) => quote!(Option<::jmp_driver::ResourceHandle>),
        _ => quote!(#ty),
    }
}
