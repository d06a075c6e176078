//! Components that are small, valid, and dear to compile; and some that no parser should fall over.

use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentTypeSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, InstructionSink, Module, ModuleSection, NestedComponentSection, PrimitiveValType,
    TypeSection, ValType,
};

/// Most bytes of a component.
pub const MOST: usize = 4 << 20;

fn component(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// One module with so many functions of one type, all with the same body.
fn functions(count: u32, locals: u32, body: impl FnOnce(&mut InstructionSink<'_>)) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut declared = FunctionSection::new();
    let mut code = CodeSection::new();
    let mut function = Function::new((locals > 0).then_some((locals, ValType::I32)));
    body(&mut function.instructions());
    function.instructions().end();
    for _ in 0..count {
        declared.function(0);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    module
}

/// One function of so many instructions, each needing the one before.
pub fn one_huge_function(steps: u32) -> Vec<u8> {
    component(&functions(1, 0, |to| {
        to.local_get(0);
        for step in 0..steps {
            to.i32_const((step & 63) as i32).i32_add().local_get(0).i32_rotl();
        }
    }))
}

/// Loops in loops around a body that changes every variable: each loop begins with one value for each variable.
pub fn loops_of_variables(loops: u32, variables: u32) -> Vec<u8> {
    component(&functions(1, variables, |to| {
        for _ in 0..loops {
            to.loop_(BlockType::Empty);
        }
        for variable in 1..=variables {
            to.local_get(variable).i32_const(1).i32_add().local_set(variable);
        }
        for depth in 0..loops {
            to.local_get(depth % variables + 1).br_if(0).end();
        }
        to.local_get(0);
    }))
}

/// Tables of jumps to each of so many blocks.
pub fn tables_of_jumps(blocks: u32, tables: u32) -> Vec<u8> {
    component(&functions(1, 0, |to| {
        for _ in 0..blocks {
            to.block(BlockType::Result(ValType::I32));
        }
        let targets: Vec<u32> = (0..blocks).collect();
        to.local_get(0);
        for _ in 0..tables {
            to.block(BlockType::FunctionType(0));
            to.local_get(0).br_table(targets.iter().copied(), 0);
            to.end();
        }
        for _ in 0..blocks {
            to.end();
        }
    }))
}

/// So many functions that do nothing.
pub fn many_functions(count: u32) -> Vec<u8> {
    component(&functions(count, 0, |to| {
        to.local_get(0);
    }))
}

/// A module that exports one function under so many names.
pub fn many_exports(count: u32) -> Vec<u8> {
    let mut exports = ExportSection::new();
    for number in 0..count {
        exports.export(&format!("e{number}"), ExportKind::Func, 0);
    }
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut declared = FunctionSection::new();
    declared.function(0);
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instructions().end();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&exports).section(&code);
    component(&module)
}

/// A module that imports so many functions of the same type.
pub fn many_imports(count: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    for number in 0..count {
        imports.import("m", &format!("i{number}"), EntityType::Function(0));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    component(&module)
}

/// So many types, none of which is used.
pub fn many_types(count: u32) -> Vec<u8> {
    let mut component = Component::new();
    let mut types = ComponentTypeSection::new();
    for _ in 0..count {
        types.defined_type().list(wasm_encoder::ComponentValType::Primitive(PrimitiveValType::U8));
    }
    component.section(&types);
    component.finish()
}

/// Pairs of pairs of pairs: the type of so many steps has two to that power leaves.
pub fn types_that_double(steps: u32) -> Vec<u8> {
    let mut component = Component::new();
    let mut types = ComponentTypeSection::new();
    let mut of = wasm_encoder::ComponentValType::Primitive(PrimitiveValType::U8);
    for step in 0..steps {
        types.defined_type().tuple([of, of]);
        of = wasm_encoder::ComponentValType::Type(step);
    }
    component.section(&types);
    component.finish()
}

/// A component in a component, so many times.
pub fn nested_components(depth: u32) -> Vec<u8> {
    let mut component = Component::new();
    for _ in 0..depth {
        let mut around = Component::new();
        around.section(&NestedComponentSection(&component));
        component = around;
    }
    component.finish()
}
