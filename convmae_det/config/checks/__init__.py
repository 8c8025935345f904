"""All rules about values of the configuration, whose errors have one form: "KEY is VALUE; it must …".

What depends on loaded data, such as the number of classes, is checked where they are loaded. Nothing here needs
Detectron2.
"""
