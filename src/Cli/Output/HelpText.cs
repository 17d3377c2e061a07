using System.Text;
using Platter.Cli.Commands;
using Platter.Cli.Options;

namespace Platter.Cli.Output;

/// <summary>Writes help from the tables that the parser uses, so that the two cannot disagree.</summary>
internal static class HelpText
{
    private const int Width = 100;
    private const int TextColumn = 30;

    /// <summary>The list of commands.</summary>
    public static void WriteOverview(TextWriter writer, string programName)
    {
        writer.Write($"Usage: {programName} COMMAND [OPTION]... [IMAGE]...\n\n");
        writer.Write("Opens, inspects, checks, copies and serves disk images: qcow2, Parallels (images and bundles), raw, NBD.\n\nCommands:\n");
        foreach (var command in CommandTable.All())
        {
            WriteEntry(writer, $"  {command.Name}", command.Summary);
        }

        writer.Write($"\nOptions:\n");
        WriteEntry(writer, "  -h, --help", "Print this, or with a command the command's options.");
        WriteEntry(writer, "  -V, --version", "Print the version.");
        writer.Write($"\n'{programName} COMMAND --help' tells the options of a command.\n");
    }

    /// <summary>One command's options.</summary>
    public static void WriteCommand(TextWriter writer, string programName, Command command)
    {
        var started = command.Name == programName ? programName : $"{programName} {command.Name}";
        writer.Write($"Usage: {started} [OPTION]... {command.Operands}\n\n");
        WriteWrapped(writer, command.Summary, 0, 0);
        writer.Write("\nOptions:\n");
        foreach (var option in command.Options)
        {
            if (option.Help.Length > 0)
            {
                WriteEntry(writer, Spell(option), option.Help);
            }
        }

        if (command.Details.Length > 0)
        {
            writer.Write('\n');
            foreach (var line in command.Details.Split('\n'))
            {
                WriteWrapped(writer, line, 0, 0);
            }
        }
    }

    private static string Spell(Option option)
    {
        var text = new StringBuilder("  ");
        text.Append(option.Short != '\0' ? $"-{option.Short}" : "  ");
        if (option.Long.Length > 0)
        {
            text.Append(option.Short != '\0' ? ", " : "  ").Append("--").Append(option.Long);
        }

        return (option.Argument is null ? text : text.Append(option.TakesArgumentAttachedOnly ? string.Empty : option.Long.Length > 0 ? "=" : " ").Append(option.Argument)).ToString();
    }

    private static void WriteEntry(TextWriter writer, string left, string text)
    {
        writer.Write(left);
        if (left.Length > TextColumn - 2)
        {
            writer.Write('\n');
            WriteSpaces(writer, TextColumn);
        }
        else
        {
            WriteSpaces(writer, TextColumn - left.Length);
        }

        WriteWrapped(writer, text, TextColumn, TextColumn);
    }

    private static void WriteWrapped(TextWriter writer, string text, int column, int indent)
    {
        var first = true;
        foreach (var word in text.Split(' '))
        {
            if (!first && column + 1 + word.Length > Width)
            {
                writer.Write('\n');
                WriteSpaces(writer, indent);
                column = indent;
                first = true;
            }

            if (!first)
            {
                writer.Write(' ');
                column++;
            }

            writer.Write(word);
            column += word.Length;
            first = false;
        }

        writer.Write('\n');
    }

    private static void WriteSpaces(TextWriter writer, int count)
    {
        for (; count > 0; count--)
        {
            writer.Write(' ');
        }
    }
}
