using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using Platter.Core.Storages;
using Platter.Formats.Raw;
using Platter.Host.Files;
using Platter.Nbd.Client;
using Platter.Operations.Copy;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Repository;

/// <summary>The public surface of the package as text files, so that every change of it is a line of a diff that somebody looks at.</summary>
/// <remarks>Of the façade every member is listed, of the rooms behind it the types.</remarks>
public sealed class PublicApiTests
{
    private const string Folder = "tests/Unit/Repository/PublicApi";

    [Fact]
    public void Members_of_the_facade_are_as_recorded() => Compare("Platter.txt", Members(typeof(Disk).Assembly));

    [Fact]
    public void Types_of_the_rooms_are_as_recorded() => Compare("Rooms.txt",
    [
        .. new[] { typeof(Storage), typeof(FileStorage), typeof(RawFormat), typeof(NbdStorage), typeof(CopyEngine) }
            .SelectMany(type => type.Assembly.GetExportedTypes()).Select(Declaration).Order(StringComparer.Ordinal),
    ]);

    private static void Compare(string file, List<string> actual)
    {
        var path = Path.Combine(DemoSample.RepositoryRoot, Folder, file);
        if (Environment.GetEnvironmentVariable("PLATTER_UPDATE") == "1")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, string.Join('\n', actual) + "\n");
        }

        string[] recorded = File.Exists(path) ? [.. File.ReadAllLines(path).Where(line => line.Length > 0)] : [];
        var difference = recorded.Except(actual).Select(line => $"- {line}").Concat(actual.Except(recorded).Select(line => $"+ {line}")).ToList();
        Assert.True(
            difference.Count == 0,
            $"the public API differs from {Folder}/{file}; if that is meant, run the tests once with PLATTER_UPDATE=1 and commit the file:\n{string.Join('\n', difference)}");
    }

    private static List<string> Members(Assembly assembly)
    {
        const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        var lines = new List<string>();
        foreach (var type in assembly.GetExportedTypes().OrderBy(type => type.FullName, StringComparer.Ordinal))
        {
            lines.Add(Declaration(type));
            var name = Name(type);
            lines.AddRange(type.GetMembers(All).Where(IsWritten).Select(member => Describe(type, name, member)).OfType<string>().Order(StringComparer.Ordinal));
        }

        return lines;
    }

    // Records and lambdas bring members that nobody wrote.
    private static bool IsWritten(MemberInfo member) => !member.IsDefined(typeof(CompilerGeneratedAttribute), false) || member is PropertyInfo;

    private static string? Describe(Type type, string name, MemberInfo member) => member switch
    {
        FieldInfo { IsSpecialName: false } field when IsVisible(field.Attributes) => type.IsEnum
            ? $"{name}.{field.Name} = {Convert.ToInt64(field.GetRawConstantValue())}"
            : $"{name}.{field.Name} : {Name(field.FieldType)}",
        PropertyInfo property when Accessor(property) is { } get && IsVisible(get) =>
            $"{name}.{property.Name} : {Name(property.PropertyType)} {{ {(property.CanRead ? "get; " : "")}{(property.SetMethod is { } set && IsVisible(set) ? IsInit(set) ? "init; " : "set; " : "")}}}",
        ConstructorInfo constructor when IsVisible(constructor) => $"{name}({Parameters(constructor)})",
        MethodInfo { IsSpecialName: false } method when IsVisible(method) =>
            $"{name}.{method.Name}({Parameters(method)}) : {Name(method.ReturnType)}{(method.IsStatic ? " static" : method.GetBaseDefinition() != method ? " override" : "")}",
        EventInfo @event => $"{name}.{@event.Name} : event {Name(@event.EventHandlerType!)}",
        _ => null,
    };

    private static MethodInfo? Accessor(PropertyInfo property) => property.GetMethod ?? property.SetMethod;

    private static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static bool IsVisible(FieldAttributes attributes) =>
        (attributes & FieldAttributes.FieldAccessMask) is FieldAttributes.Public or FieldAttributes.Family or FieldAttributes.FamORAssem;

    private static bool IsInit(MethodInfo set) => set.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit));

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{Name(parameter.ParameterType)} {parameter.Name}{(parameter.HasDefaultValue ? $" = {parameter.DefaultValue ?? "default"}" : "")}"));

    private static string Declaration(Type type)
    {
        var words = new StringBuilder();
        words.Append(type.IsEnum ? "enum " : type.IsInterface ? "interface " : type.IsValueType ? "struct " : type.IsAbstract && type.IsSealed ? "static class "
            : type.IsAbstract ? "abstract class " : type.IsSealed ? "sealed class " : "class ");
        words.Append(type.Namespace).Append('.').Append(Name(type));
        if (type is { IsEnum: false, IsValueType: false, BaseType: { } parent } && parent != typeof(object))
        {
            words.Append(" : ").Append(Name(parent));
        }

        return words.ToString();
    }

    private static string Name(Type type)
    {
        if (type.IsArray)
        {
            return Name(type.GetElementType()!) + "[]";
        }

        if (Nullable.GetUnderlyingType(type) is { } value)
        {
            return Name(value) + "?";
        }

        if (type.IsByRef)
        {
            return "ref " + Name(type.GetElementType()!);
        }

        var name = type.IsNested && !type.IsGenericParameter ? $"{Name(type.DeclaringType!)}.{type.Name}" : type.Name;
        return type.IsGenericType ? $"{name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : name;
    }
}
