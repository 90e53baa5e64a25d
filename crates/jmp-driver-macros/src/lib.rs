//! The `interface` attribute: a driver interface, written once as a trait.
//!
//! From the trait come the descriptor, the dispatch table for every implementation and the typed
//! client, so that no method name is written twice. Use it through `jmp_driver::interface`.

mod expand;
mod parse;

use proc_macro::TokenStream;

/// Declares a driver interface.
///
/// `#[interface(client = "dotted.path.Class")]` stands on a trait whose methods are
///
/// * `async fn name(&self, …) -> Result<T>`: a unary call,
/// * `fn name(&self, …) -> impl Stream<Item = Result<T>> + Send`: a streaming call,
/// * `#[stream] async fn name(&self) -> Result<ByteStream>`: raw bytes.
///
/// `#[method(name = "…")]` gives a method another name on the wire; two methods may share one
/// wire name if their kinds differ. `#[default(value)]` on an argument lets callers leave it out;
/// `Option` arguments may always be left out. `#[rest]` on the last argument, a `Vec`, collects
/// all that remain. A method of the trait may have a default body.
///
/// For a trait `Power` the macro makes `POWER` (the descriptor), `power_interface()` (what a
/// driver lists in `Driver::interfaces`) and `PowerClient`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = syn::parse_macro_input!(arguments as parse::Arguments);
    let item = syn::parse_macro_input!(item as syn::ItemTrait);
    parse::Interface::new(arguments, item)
        .map(|interface| expand::expand(&interface))
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
